-- include arguments.lua
-- include clock.lua
-- include same_user.lua
-- Leaves a conversation that is to become an event of its user; nothing of one who was erased since it was begun.
-- KEYS       state erasures chats waiting
-- arguments  response_id stamp{born erasures} member most (conversations of a user that may wait)
-- ARGV       2 event
-- Answers    kept | full | erased
local state, erasures, chats, waiting = unpack(KEYS)
if not is_same_user(state, erasures, arguments.stamp) then return 'erased' end
if redis.call('HLEN', chats) >= arguments.most then return 'full' end
redis.call('HSET', chats, arguments.response_id, ARGV[2])
redis.call('ZADD', waiting, 'LT', clock_ms(), arguments.member)
return 'kept'
