-- Adds an entry to a user's live stream and tells the processes that follow it. The channel has the stream's name;
-- where it may not be written to, the followers look by themselves after a while.
local function tell_followers(live, settings)
  redis.pcall(settings.publish, live, '')
end

local function add_live(live, most, event, data, settings)
  redis.call('XADD', live, 'MAXLEN', '~', most, '*', 'e', event, 'd', data)
  redis.call('PEXPIRE', live, settings.live_ms)
  tell_followers(live, settings)
end
