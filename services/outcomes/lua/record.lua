-- include arguments.lua
-- include add_trial.lua
-- include same_user.lua
-- Stores what was served, and counts it unless it has no arm. Of a user's answers the oldest make room. Nothing of a
-- user who was erased since the answer was begun.
-- KEYS       served outcomes arms state erasures
-- arguments  stamp{born erasures} (of the user, as the answer was begun)
--            response_id record{kind share arm? shown{index: key} choice?} tenant ttl_s most oldest outcomes_ttl_s
--            (`oldest` sorts behind the ids of answers whose time is over)
-- Answers    1 | 0
local served, outcomes, arms, state, erasures = unpack(KEYS)
if not is_same_user(state, erasures, arguments.stamp) then return 0 end
local record = arguments.record
redis.call('HSET', served, arguments.response_id, cjson.encode(record))
redis.call('EXPIRE', served, arguments.ttl_s)
local ids = redis.call('HKEYS', served)
table.sort(ids)
for place, id in ipairs(ids) do
  if id < arguments.oldest or place <= #ids - arguments.most then redis.call('HDEL', served, id) end
end
if not record.arm then return 1 end
local all, time = arguments.tenant .. ':' .. record.share .. ':', arguments.response_id:sub(1, 12)  -- ms since 1970, hex
redis.call('HINCRBY', arms, all .. record.arm .. ':served.' .. record.kind, 1)
redis.call('HSETNX', arms, all .. 'since', time)
redis.call('HSET', arms, all .. 'until', time)
if record.kind == 'recommendation' then
  add_trial(outcomes, arms, arguments.tenant, record, 'click_rate', 1, 0)
  redis.call('EXPIRE', outcomes, arguments.outcomes_ttl_s)
end
return 1
