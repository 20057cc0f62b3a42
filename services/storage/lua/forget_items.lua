-- Takes a user's journal of items from them: under a name without the user it waits to be subtracted from the
-- tenant's counts (services/traffic).
local function forget_items(journal, unread, member, gone)
  redis.call('ZREM', unread, member)
  if redis.call('EXISTS', journal) == 0 then return end
  redis.call('RENAME', journal, gone.key)
  redis.call('ZADD', unread, 0, gone.member)
end
