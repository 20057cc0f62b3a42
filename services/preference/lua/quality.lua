-- include arguments.lua
-- include add_scores.lua
-- Adds the engine's test of a summary, unless the user has been erased since.
-- KEYS       state quality
-- arguments  born tenant scored{count hits mass}
-- Answers    1 | 0
local state, quality = unpack(KEYS)
if redis.call('HGET', state, 'born') ~= arguments.born then return 0 end
add_scores('engine', state, quality, arguments.tenant, arguments.scored)
return 1
