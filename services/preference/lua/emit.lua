-- Leaves an event for each endpoint that wants it (services/preference/webhooks/outbox.py), in the step that makes it
-- true. `hook` is false where no endpoint does. Its keys have the hash tag of the script's own. A log's value is the
-- name of the user's index of events ('' where there is none), a line feed and the record.
-- hook   id record endpoints{id} member (of an endpoint, without its id) own (prefix of an endpoint's keys, without
--        its id) hooks index
local function emit(hook)
  if not hook then return end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  for _, endpoint in ipairs(hook.endpoints) do
    local own = hook.own .. endpoint .. ':'
    redis.call('HSET', own .. 'log', hook.id, hook.index .. '\n' .. hook.record)
    redis.call('ZADD', own .. 'due', now, hook.id)
    redis.call('ZADD', hook.hooks, 'LT', now, hook.member .. endpoint)
    if hook.index ~= '' then redis.call('SADD', hook.index, own .. ' ' .. hook.id) end
  end
end
