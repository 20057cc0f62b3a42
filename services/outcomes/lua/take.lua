-- include arguments.lua
-- include add_trial.lua
-- include resolve.lua
-- Finds for each item that the user took the latest answer that had shown it by then, and counts what became of that.
-- KEYS       served outcomes arms
-- arguments  tenant taken[{key, latest}] (`latest` sorts behind the ids of answers until then) oldest outcomes_ttl_s
-- Answers    JSON: [{kind, arm, hit}] of the answers that were counted
local served, outcomes, arms = unpack(KEYS)
local flat, records, ids, counted = redis.call('HGETALL', served), {}, {}, {}
for place = 1, #flat, 2 do
  if flat[place] > arguments.oldest then
    ids[#ids + 1] = flat[place]
    records[flat[place]] = cjson.decode(flat[place + 1])
  end
end
table.sort(ids, function(one, other) return one > other end)

local function find(key, latest)
  for _, id in ipairs(ids) do
    if id < latest then
      for index, shown in pairs(records[id].shown) do
        if shown == key then return id, index end
      end
    end
  end
end

for _, item in ipairs(arguments.taken) do
  local id, index = find(item.key, item.latest)
  local record = records[id]
  if record and record.arm and resolve(outcomes, arms, arguments.tenant, record, index) == 1 then
    redis.call('HSET', served, id, cjson.encode(record))
    counted[#counted + 1] = {kind = record.kind, arm = record.arm, hit = index == record.choice}
  end
end
if #counted == 0 then return '[]' end
redis.call('EXPIRE', outcomes, arguments.outcomes_ttl_s)
return cjson.encode(counted)
