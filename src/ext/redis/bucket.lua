-- Takes one token from each bucket in KEYS, up to the first that rejects. The rule is that of the local bucket.
-- Each key has four arguments: nanoseconds between two tokens, capacity, milliseconds to keep it unused,
-- and 1 if a missing bucket counts as idle for long.
-- A bucket is a hash: t = tokens, k = intervals that were credited, b = its creation time in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reply = {}
for i = 1, #KEYS do
  local fill, capacity = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local bucket = redis.call('HMGET', KEYS[i], 't', 'k', 'b')
  local tokens, paid, born = tonumber(bucket[1]), tonumber(bucket[2]), tonumber(bucket[3])
  if not (tokens and paid and born) then
    tokens, paid, born = capacity, 0, now
    if ARGV[4 * i] == '1' then
      born = now - math.ceil((capacity + 1) * fill / 1000)
    end
  end
  local age = (now - born) * 1000
  local refused = false
  if tokens > 0 then
    tokens = tokens - 1
  else
    local passed = math.floor(age / fill)
    local due = passed - paid
    if due <= 0 then
      refused = true
      -- The server's clock went back: count from now on.
      if due < 0 then paid = passed end
    elseif due > capacity then
      tokens = capacity
      paid = passed
    else
      tokens = due - 1
      paid = passed
    end
  end
  redis.call('HSET', KEYS[i], 't', string.format('%.0f', tokens), 'k', string.format('%.0f', paid),
    'b', string.format('%.0f', born))
  redis.call('PEXPIRE', KEYS[i], ARGV[4 * i - 1])
  if refused then
    reply[2 * i - 1] = 0
    reply[2 * i] = math.ceil((fill - age % fill) / 1000)
    break
  end
  reply[2 * i - 1] = 1
  reply[2 * i] = tokens
end
return reply
