-- include arguments.lua
-- Nothing of a user is unread any more, unless an event came after the lease began.
-- KEYS       unread journal
-- arguments  member ends (of the lease) is_gone (the user was erased: the journal goes)
if arguments.is_gone then redis.call('UNLINK', KEYS[2]) end
local score = redis.call('ZSCORE', KEYS[1], arguments.member)
if score and tonumber(score) == tonumber(arguments.ends) then redis.call('ZREM', KEYS[1], arguments.member) end
