-- Adds to a user's live stream, for as long as the writer holds the lease.
-- KEYS  st live
-- ARGV  token event data live_ms
-- Gives 1 | 0 when the lease is lost
if redis.call('HGET', KEYS[1], 'tok') ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 2048, '*', 'e', ARGV[2], 'd', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
