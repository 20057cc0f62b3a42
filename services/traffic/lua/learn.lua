-- include arguments.lua
-- Replaces what is learned of one kind of choices, unless another reader came first.
-- KEYS       mixture
-- arguments  kind before after
-- Answers    what is stored now
local current = redis.call('HGET', KEYS[1], arguments.kind) or ''
if current ~= arguments.before then return current end
redis.call('HSET', KEYS[1], arguments.kind, arguments.after)
return arguments.after
