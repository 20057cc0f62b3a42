-- include arguments.lua
-- include emit.lua
-- Keeps a reply that is no summary, newest first, for as long as the writer holds the lease.
-- KEYS       state rejected
-- arguments  token settings hook
-- ARGV       2 draft
-- Answers    1 | 0 when the lease is lost
local state, rejected = unpack(KEYS)
if redis.call('HGET', state, 'tok') ~= arguments.token then return 0 end
redis.call('LPUSH', rejected, ARGV[2])
redis.call('LTRIM', rejected, 0, arguments.settings.keep_rejected - 1)
emit(arguments.hook)
return 1
