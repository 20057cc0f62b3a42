-- include arguments.lua
-- Erases a user. A worker that still holds the user's token is fenced from then on.
-- KEYS       ready leases, then each key of the user
-- arguments  member
-- Answers    the number of keys erased
redis.call('ZREM', KEYS[1], arguments.member)
redis.call('ZREM', KEYS[2], arguments.member)
return redis.call('UNLINK', unpack(KEYS, 3))
