-- include arguments.lua
-- include add_trial.lua
-- Stores what was served, and counts it unless it has no arm. Of a user's answers the oldest make room.
-- KEYS       served outcomes arms
-- arguments  response_id record{kind share arm? shown{index: key} choice?} tenant ttl_s most oldest outcomes_ttl_s
--            (`oldest` sorts behind the ids of answers whose time is over)
local served, outcomes, arms = unpack(KEYS)
local record = arguments.record
redis.call('HSET', served, arguments.response_id, cjson.encode(record))
redis.call('EXPIRE', served, arguments.ttl_s)
local ids = redis.call('HKEYS', served)
table.sort(ids)
for place, id in ipairs(ids) do
  if id < arguments.oldest or place <= #ids - arguments.most then redis.call('HDEL', served, id) end
end
if not record.arm then return end
redis.call('HINCRBY', arms, arguments.tenant .. ':' .. record.share .. ':' .. record.arm .. ':served.' .. record.kind, 1)
if record.kind == 'recommendation' then
  add_trial(outcomes, arms, arguments.tenant, record, 'click_rate', 1, 0)
  redis.call('EXPIRE', outcomes, arguments.outcomes_ttl_s)
end
