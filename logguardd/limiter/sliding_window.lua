-- Exact sliding-window logs for a batch of tallies. One sorted set a key: score the time in microseconds, member the hit.
--
-- ARGV[1]  JSON: [singles, others], with marks in order of time:
--          singles  [[window, threshold, time, [key, member, key, member, ...]], ...]: tallies of one mark each
--          others   [[key, window, threshold, [time, member, time, member, ...]], ...]
-- ARGV[2]  microseconds that a key outlives the window after its newest mark
-- returns  "exceeded_at hits exceeded_at hits ...", two whole numbers a tally, in order
--
-- Keys travel inside ARGV[1]: one long string costs client and server far less than thousands of arguments. So this
-- runs on a single (or replicated) Redis, not on a cluster. Lua prints 14 digits of a number where asked to join it to
-- a text; times have 16.

local call, pcall = redis.call, redis.pcall
local grace = tonumber(ARGV[2])

local function digits(time)
  return string.format('%.0f', time)
end

local function lifetime(window)
  return digits(math.ceil((window + grace) / 1000))
end

local function add(key, ...)
  local added = pcall('ZADD', key, ...)
  if type(added) == 'table' then
    if string.find(added.err, 'WRONGTYPE', 1, true) then
      -- Somebody else's key under our name.
      call('DEL', key)
    end
    call('ZADD', key, ...)
  end
end

-- The marks' index (counted in marks, from 0) of the first that exceeds, or -1. The general and slower way: several
-- times in one tally, or marks that came later than newer ones.
local function scan(key, window, threshold, marks)
  local kept = call('ZRANGE', key, 0, -1, 'WITHSCORES')
  local count = #kept / 2
  local times = {}
  for i = 1, count do
    times[i] = tonumber(kept[2 * i])
  end
  local last = 0
  for i = 1, #marks, 2 do
    local time = marks[i]
    while last < count and times[last + 1] <= time do
      last = last + 1
    end
    if last > threshold and times[last - threshold] > time - window then
      return (i - 1) / 2
    end
  end
  local mark = 1
  for i = threshold + 1, count do
    local time = times[i]
    if times[i - threshold] > time - window then
      while mark < #marks and marks[mark] <= time - window do
        mark = mark + 2
      end
      if mark < #marks and marks[mark] <= time then
        return (mark - 1) / 2
      end
    end
  end
  return -1
end

-- What the marks, which are in the set already, come to: exceeded_at and hits. Trims the set and prolongs its life.
local function judge(key, window, threshold, marks)
  local first, last = marks[1], marks[#marks - 1]
  local exceeded = -1
  local hits = call('ZCOUNT', key, digits(last - window + 1), '+inf')
  if first == last then
    if hits > threshold then
      if call('ZCOUNT', key, digits(last - window + 1), digits(last)) > threshold then
        exceeded = 0
      else
        exceeded = scan(key, window, threshold, marks)
      end
    end
  elseif call('ZCOUNT', key, digits(first - window + 1), '+inf') > threshold then
    exceeded = scan(key, window, threshold, marks)
  end
  local current = true
  if call('ZREMRANGEBYRANK', key, 0, -threshold - 2) > 0 then
    -- Marks older than all that is kept do not prolong it: what is kept may come from a clock that was set back since.
    current = last >= tonumber(call('ZRANGE', key, 0, 0, 'WITHSCORES')[2])
  end
  if current then
    call('PEXPIRE', key, lifetime(window))
  end
  return exceeded, math.min(hits, threshold + 1)
end

local singles, others = unpack(cjson.decode(ARGV[1]))
local verdicts = {}
local filled = 0

for _, group in ipairs(singles) do
  local window, threshold, time, entries = unpack(group)
  local now, since, expiry = digits(time), digits(time - window + 1), lifetime(window)
  for i = 1, #entries, 2 do
    local key, member = entries[i], entries[i + 1]
    add(key, now, member)
    local kept = call('ZCARD', key)
    local exceeded, hits = -1, kept
    if kept > 1 then
      hits = call('ZCOUNT', key, since, '+inf')
    end
    if hits > threshold or kept > threshold + 1 then
      exceeded, hits = judge(key, window, threshold, { time, member })
    else
      call('PEXPIRE', key, expiry)
    end
    verdicts[filled + 1] = exceeded
    verdicts[filled + 2] = hits
    filled = filled + 2
  end
end

for _, tally in ipairs(others) do
  local key, window, threshold, marks = unpack(tally)
  add(key, unpack(marks))
  verdicts[filled + 1], verdicts[filled + 2] = judge(key, window, threshold, marks)
  filled = filled + 2
end

return table.concat(verdicts, ' ')
