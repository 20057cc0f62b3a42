-- include arguments.lua
-- include clock.lua
-- Takes a user without conversations out of those who have some; else looks at them again in a while.
-- KEYS       chats waiting
-- arguments  member in_ms
local chats, waiting = unpack(KEYS)
if redis.call('HLEN', chats) == 0 then
  redis.call('ZREM', waiting, arguments.member)
else
  redis.call('ZADD', waiting, clock_ms() + arguments.in_ms, arguments.member)
end
