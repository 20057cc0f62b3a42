-- include arguments.lua
-- Ends a reservation: what was used counts in place of its estimate. A second time does nothing.
-- KEYS       what the tenant has spent in the month of the reservation
-- arguments  id used
-- Answers    {spent in the reservation's day, in its month}; nil where there is no such reservation
local key = KEYS[1]
local held = redis.call('HGET', key, arguments.id)
if not held then return nil end
local day, reserved = held:match('^(%S+) (%d+)$')
local difference = string.format('%d', arguments.used - reserved)
-- First what a full Redis refuses: then the reservation stays as it is.
local spent = {redis.call('HINCRBY', key, day, difference), redis.call('HINCRBY', key, 'month', difference)}
redis.call('HDEL', key, arguments.id)
return spent
