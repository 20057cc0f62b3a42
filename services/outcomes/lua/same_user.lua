-- Whether the user was not erased since `stamp` {born, erasures} was read. Of a user who had no history by then only
-- this is known: nobody of the shard was erased since.
local function is_same_user(state, erasures, stamp)
  if stamp.born ~= '' then return redis.call('HGET', state, 'born') == stamp.born end
  return (redis.call('GET', erasures) or '') == stamp.erasures
end
