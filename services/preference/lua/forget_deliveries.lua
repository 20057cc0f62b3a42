-- Takes the events of a user out of the outbox of every endpoint: an index entry is `<prefix of the keys> <event>`.
local function forget_deliveries(index)
  for _, entry in ipairs(redis.call('SMEMBERS', index)) do
    local own, id = entry:match('^(.*) (%S+)$')
    redis.call('HDEL', own .. 'log', id)
    redis.call('ZREM', own .. 'due', id)
    redis.call('ZREM', own .. 'done', id)
  end
  redis.call('UNLINK', index)
end
