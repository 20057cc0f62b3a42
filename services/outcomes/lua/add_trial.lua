-- Adds trials and successes of a user to the user's own sums and to those of the arm, over whose users it keeps the
-- sums of x (trials), y (successes), x², y² and xy: those of a ratio's variance over clusters.
local function add_trial(outcomes, arms, tenant, record, measure, trials, successes)
  local own = record.share .. '.' .. measure .. '.'
  local arm = tenant .. ':' .. record.share .. ':' .. record.arm .. ':' .. measure .. '.'
  local before = redis.call('HMGET', outcomes, own .. 'x', own .. 'y')
  local x, y = tonumber(before[1] or 0), tonumber(before[2] or 0)
  local more_x, more_y = x + trials, y + successes
  if x == 0 and more_x > 0 then redis.call('HINCRBY', arms, arm .. 'users', 1) end
  for sum, change in pairs({
    x = trials, y = successes, xx = more_x * more_x - x * x, yy = more_y * more_y - y * y, xy = more_x * more_y - x * y,
  }) do
    redis.call('HINCRBY', arms, arm .. sum, change)
  end
  redis.call('HSET', outcomes, own .. 'x', more_x, own .. 'y', more_y)
end
