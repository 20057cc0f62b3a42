-- include arguments.lua
-- Says of a journal's changes that all buckets have them, or forgets them.
-- KEYS       journal
-- arguments  token is_over
-- Answers    1 | 0 where another reader came first
local journal = KEYS[1]
if redis.call('HGET', journal, 'tok') ~= arguments.token then return 0 end
if not arguments.is_over then
  redis.call('HSET', journal, 'sent', 1)
  return 1
end
for _, field in ipairs(redis.call('HKEYS', journal)) do
  if field:match('^out:') then redis.call('HDEL', journal, field) end
end
redis.call('HDEL', journal, 'tok', 'sent')
return 1
