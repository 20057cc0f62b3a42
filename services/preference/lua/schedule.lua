-- When a user's update is due. Fields of the state that belong to the events since the latest claim:
--   t0        when they became due (ms); absent while they may wait
--   due       score in `ready` that they ask for
--   new.n new.tok new.bits   their number, estimated tokens, and surprise in bits
-- LOW is added to the due time of users who wait for a backfill, so that they follow all others in `ready`.
local LOW = 2 ^ 50

local function forget_schedule(state)
  redis.call('HDEL', state, 't0', 'due', 'new.n', 'new.tok', 'new.bits')
end

-- Whatever waits is due from now on, and no later event puts it off for long.
local function mark_due(state, now)
  redis.call('HSETNX', state, 't0', now)
end
