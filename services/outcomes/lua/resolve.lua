-- Notes that the user took an item of an answer, by its `index` there; answers 1, or 0 where one was taken before.
local function resolve(outcomes, arms, tenant, record, index)
  if record.taken then return 0 end
  record.taken = index
  if record.kind == 'selection' then
    add_trial(outcomes, arms, tenant, record, 'accuracy', 1, index == record.choice and 1 or 0)
  else
    add_trial(outcomes, arms, tenant, record, 'click_rate', 0, 1)
  end
  return 1
end
