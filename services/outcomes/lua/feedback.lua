-- include arguments.lua
-- include add_trial.lua
-- include resolve.lua
-- Counts the feedback to one answer: a thumb, of which the latest holds, and the item that was taken.
-- KEYS       served outcomes arms
-- arguments  response_id tenant oldest outcomes_ttl_s thumb? picked? (an index, as text)
-- Answers    JSON: {unknown | not_shown | kind arm? taken thumb (whether each is new)}
local served, outcomes, arms = unpack(KEYS)
local stored = arguments.response_id > arguments.oldest and redis.call('HGET', served, arguments.response_id)
if not stored then return cjson.encode({unknown = true}) end
local record, answer = cjson.decode(stored), {taken = false, thumb = false}
local picked, thumb = arguments.picked, arguments.thumb
if picked and not record.shown[picked] then return cjson.encode({not_shown = true}) end
answer.kind, answer.arm = record.kind, record.arm
if record.arm then
  if picked then answer.taken = resolve(outcomes, arms, arguments.tenant, record, picked) == 1 end
  if thumb and thumb ~= record.thumb then
    local was_up, is_up = record.thumb == 'up' and 1 or 0, thumb == 'up' and 1 or 0
    add_trial(outcomes, arms, arguments.tenant, record, 'feedback_rate', record.thumb and 0 or 1, is_up - was_up)
    answer.thumb, record.thumb = not record.thumb, thumb
  end
  answer.hit = picked == record.choice
  redis.call('HSET', served, arguments.response_id, cjson.encode(record))
  redis.call('EXPIRE', outcomes, arguments.outcomes_ttl_s)
end
return cjson.encode(answer)
