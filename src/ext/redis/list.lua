-- A list that several gateways share: each element with the time at which it was added, by the clock of Redis.
-- KEYS[1]: the list. ARGV: since when elements are wanted (ms), how long they are kept (ms), how many of the answer to
-- skip, and elements to add. Answer: the time now, whether there are more elements (1 or 0), and elements: up to 5000,
-- and fewer if they are long.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 4, #ARGV do
  redis.call('ZADD', KEYS[1], now, ARGV[i])
end
if #ARGV > 3 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'LIMIT', ARGV[3], 5000)
local more, bytes, answer = #found == 5000, 0, {}
for i, element in ipairs(found) do
  bytes = bytes + #element + 32
  if bytes > 524288 and i > 1 then
    more = true
    break
  end
  answer[i] = element
end
table.insert(answer, 1, more and '1' or '0')
table.insert(answer, 1, string.format('%.0f', now))
return answer
