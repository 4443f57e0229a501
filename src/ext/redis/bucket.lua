-- Takes one token from each bucket in KEYS, up to the first that rejects.
-- Each key has three arguments: nanoseconds between two tokens, capacity, and milliseconds to keep it unused.
-- Unlike a local bucket, which follows KrakenD, a bucket is refilled whenever it is used and never above its capacity:
-- in no time do more requests pass than the rate and one burst.
-- A bucket is a hash: t = tokens, k = intervals that were credited, b = its creation time in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = {}
for i = 1, #KEYS do
  local fill, capacity = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
  local bucket = redis.call('HMGET', KEYS[i], 't', 'k', 'b')
  local tokens, paid, born = tonumber(bucket[1]), tonumber(bucket[2]), tonumber(bucket[3])
  if not (tokens and paid and born) then
    tokens, paid, born = capacity, 0, now
  end
  local age = (now - born) * 1000
  local passed = math.floor(age / fill)
  -- Negative if the server's clock went back: it counts from now on.
  tokens = math.min(capacity, tokens + math.max(0, passed - paid))
  paid = passed
  local refused = tokens < 1
  if not refused then
    tokens = tokens - 1
  end
  redis.call('HSET', KEYS[i], 't', string.format('%.0f', tokens), 'k', string.format('%.0f', paid),
    'b', string.format('%.0f', born))
  redis.call('PEXPIRE', KEYS[i], ARGV[3 * i])
  if refused then
    reply[2 * i - 1] = 0
    reply[2 * i] = math.ceil((fill - age % fill) / 1000)
    break
  end
  reply[2 * i - 1] = 1
  reply[2 * i] = tokens
end
return reply
