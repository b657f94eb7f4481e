-- Publish bans and their ends to the other daemons, all or nothing.
--
-- KEYS[1]  hash      network|port -> the ban, as JSON
-- KEYS[2]  sorted    network|port by the time the ban ends (µs, +inf: never)
-- KEYS[3]  sorted    network|port by the time it was unbanned: so that a daemon that was away does not bring it back
-- KEYS[4]  stream    changes: by (a daemon), add (names, with spaces), remove (name@time, with spaces)
-- ARGV[1]  JSON: {"add": [[name, ban, since, until or -1], ...], "remove": [[name, time], ...]}
-- ARGV[2]  now in µs  ARGV[3] the daemon  ARGV[4] most bans  ARGV[5] most unbans  ARGV[6] µs an unban is remembered
-- returns  {names that were unbanned since they were banned, joined with spaces; number of bans there was no room for}

local bans, ends, unbanned, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call
local now, most, most_unbanned, remembered = tonumber(ARGV[2]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local payload = cjson.decode(ARGV[1])

-- Times have 16 digits; joined to a text they would lose two.
local function digits(time)
  return string.format('%.0f', time)
end

local function drop(name)
  call('HDEL', bans, name)
  call('ZREM', ends, name)
end

for _, name in ipairs(call('ZRANGEBYSCORE', ends, '-inf', digits(now), 'LIMIT', 0, 1000)) do
  drop(name)
end
call('ZREMRANGEBYSCORE', unbanned, '-inf', digits(now - remembered))

local added, removed, refused, full = {}, {}, {}, 0

for _, item in ipairs(payload.remove) do
  local name, time = unpack(item)
  local text = call('HGET', bans, name)
  local good, ban = pcall(cjson.decode, text or '')
  -- What was banned again after this unban stays.
  if not (good and type(ban) == 'table' and type(ban.since) == 'number' and ban.since > time) then
    drop(name)
    call('ZADD', unbanned, digits(time), name)
    removed[#removed + 1] = name .. '@' .. digits(time)
  end
end

for _, item in ipairs(payload.add) do
  local name, text, since, finish = unpack(item)
  if finish < 0 then
    finish = math.huge
  end
  local ended = tonumber(call('ZSCORE', unbanned, name) or -1)
  local known = tonumber(call('ZSCORE', ends, name) or -1)
  if since <= ended then
    refused[#refused + 1] = name
  elseif known < 0 and call('ZCARD', ends) >= most then
    full = full + 1
  elseif finish > known then
    call('HSET', bans, name, text)
    call('ZADD', ends, finish == math.huge and '+inf' or digits(finish), name)
    call('ZREM', unbanned, name)
    added[#added + 1] = name
  end
end

call('ZREMRANGEBYRANK', unbanned, 0, -most_unbanned - 1)
if #added + #removed > 0 then
  call('XADD', changes, 'MAXLEN', '~', 10000, '*', 'by', ARGV[3],
    'add', table.concat(added, ' '), 'remove', table.concat(removed, ' '))
end

-- Nothing stays in Redis when no daemon is left.
call('PEXPIRE', changes, 86400000)
call('PEXPIRE', unbanned, digits(remembered / 1000))
local last = tonumber(call('ZREVRANGE', ends, 0, 0, 'WITHSCORES')[2] or 0)
for _, key in ipairs({ bans, ends }) do
  if last == math.huge then
    call('PERSIST', key)
  else
    call('PEXPIREAT', key, digits(math.ceil(last / 1000) + 60000))
  end
end

return { table.concat(refused, ' '), full }
