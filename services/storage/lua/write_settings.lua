-- include arguments.lua
-- Sets fields of a tenant's settings.
-- KEYS       settings
-- arguments  replace (drop the fields that are not named) changes{field = JSON value, or '' to drop it}
if arguments.replace then redis.call('DEL', KEYS[1]) end
for field, value in pairs(arguments.changes) do
  if value == '' then redis.call('HDEL', KEYS[1], field) else redis.call('HSET', KEYS[1], field, value) end
end
