"""The built packages on booted Debians. Minutes, not seconds: `make test-packages` runs them, `make test` does not."""
