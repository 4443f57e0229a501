-- A list that several gateways share: each element with the time at which it was added, by the clock of Redis.
--
-- KEYS[1]: the list.
-- ARGV: how long elements are kept (ms), the time and the element up to which the reader knows the list (two empty texts
-- at first), "missing" if only elements that are not in the list are added, and the elements to add.
-- Answer: how many elements were new (with "missing"), whether the reader's place is no longer in the list (1 or 0), whether there are
-- more elements (1 or 0), the time of the last element of this answer, and elements: up to 2000, and fewer if they are long.
--
-- Each element gets a later time than all elements before it, even if the clock was set back. So nothing is added before
-- the place of a reader, and a place is never read twice.
local key, keep, score, element = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local STEP, FUTURE, PAGE, BYTES = 1 / 1024, 300000, 2000, 524288
local function text(number)
  return string.format('%.17g', number)
end

local new = 0
if #ARGV > 4 then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - keep))
  local most = text(now + FUTURE)
  local last = redis.call('ZREVRANGEBYSCORE', key, most, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
  local at = math.max(now, tonumber(last[2] or 0) + STEP)
  -- The clock was far ahead for a while: with the times of then, its elements would be kept too long.
  local future = redis.call('ZRANGEBYSCORE', key, '(' .. most, '+inf', 'LIMIT', 0, 5000)
  for _, early in ipairs(future) do
    redis.call('ZADD', key, text(at), early)
    at = at + STEP
  end
  for i = 5, #ARGV do
    if ARGV[4] ~= 'missing' or not redis.call('ZSCORE', key, ARGV[i]) then
      redis.call('ZADD', key, text(at), ARGV[i])
      at, new = at + STEP, new + 1
    end
  end
  redis.call('PEXPIRE', key, ARGV[1])
end

local start, lost = 0, 0
if element ~= '' then
  local found = redis.call('ZSCORE', key, element)
  if found and tonumber(found) == tonumber(score) then
    start = redis.call('ZRANK', key, element) + 1
  elseif found and tonumber(found) > tonumber(score) then
    -- It was added again.
    start = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  else
    lost = 1
  end
end

local found = redis.call('ZRANGE', key, start, start + PAGE - 1)
local bytes, answer = 0, {}
for i, element in ipairs(found) do
  bytes = bytes + #element + 32
  if bytes > BYTES and i > 1 then
    break
  end
  answer[i] = element
end
local last = #answer > 0 and redis.call('ZSCORE', key, answer[#answer]) or ''
local more = start + #answer < redis.call('ZCARD', key) and '1' or '0'
table.insert(answer, 1, last)
table.insert(answer, 1, more)
table.insert(answer, 1, tostring(lost))
table.insert(answer, 1, tostring(new))
return answer
