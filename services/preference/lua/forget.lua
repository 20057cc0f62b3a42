-- include arguments.lua
-- include forget_items.lua
-- include add_live.lua
-- include emit.lua
-- include forget_deliveries.lua
-- Erases a user. A worker that still holds the user's token is fenced from then on.
-- KEYS       ready leases unread journal index erasures waiting_chats, then each other key of the user
-- arguments  member user live (its name) gone{key, member} (names of the journal without the user) settings hook
--            hooks (the user's events in outboxes of webhooks)
-- Answers    the number of keys erased
local ready, leases, unread, journal, index, erasures, waiting_chats = unpack(KEYS, 1, 7)
redis.call('ZREM', ready, arguments.member)
redis.call('ZREM', leases, arguments.member)
redis.call('ZREM', index, arguments.user)
redis.call('ZREM', waiting_chats, arguments.member)
redis.call('INCR', erasures) -- behind another write: a full Redis refuses it as a script's first
forget_items(journal, unread, arguments.member, arguments.gone)
local erased = redis.call('UNLINK', unpack(KEYS, 8))
tell_followers(arguments.live, arguments.settings)
forget_deliveries(arguments.hooks)
if erased > 0 then emit(arguments.hook) end
return erased
