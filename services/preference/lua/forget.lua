-- Erases a user. A worker that still holds the user's token is fenced from then on.
-- KEYS  ready leases key...
-- ARGV  member
-- Gives the number of keys erased
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('UNLINK', unpack(KEYS, 3))
