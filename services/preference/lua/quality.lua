-- Adds what the engine's test of a summary showed, unless the user has been erased since.
-- KEYS  st quality
-- ARGV  born tenant scored hits mass
if redis.call('HGET', KEYS[1], 'born') ~= ARGV[1] then return 0 end
for _, sums in ipairs({{KEYS[1], ''}, {KEYS[2], ARGV[2] .. ':'}}) do
  redis.call('HINCRBY', sums[1], sums[2] .. 'engine.n', ARGV[3])
  redis.call('HINCRBYFLOAT', sums[1], sums[2] .. 'engine.ok', ARGV[4])
  redis.call('HINCRBYFLOAT', sums[1], sums[2] .. 'engine.p', ARGV[5])
end
return 1
