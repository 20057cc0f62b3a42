-- include arguments.lua
-- include forget_items.lua
-- Erases a user. A worker that still holds the user's token is fenced from then on.
-- KEYS       ready leases unread journal, then each other key of the user
-- arguments  member gone{key, member} (names of the journal without the user)
-- Answers    the number of keys erased
local ready, leases, unread, journal = unpack(KEYS, 1, 4)
redis.call('ZREM', ready, arguments.member)
redis.call('ZREM', leases, arguments.member)
forget_items(journal, unread, arguments.member, arguments.gone)
return redis.call('UNLINK', unpack(KEYS, 5))
