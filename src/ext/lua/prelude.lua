-- Builds the globals of a request. It is called once per interpreter with the base functions, and returns a builder.
-- The builder is called once per request and fills `env`, which is also its own environment: every function created
-- there belongs to that request alone, so no change by a script outlives the request.
--
-- Base functions written in C are shared, because a script cannot change them.

local base, raw = ...

local type, select, error, pairs, setfenv = base.type, base.select, base.error, base.pairs, base.setfenv
local assert, raw_pcall, raw_tostring, rawget = base.assert, base.pcall, base.tostring, base.rawget
local raw_getmetatable, raw_loadstring = base.getmetatable, base.loadstring
local floor, sub, byte, format = base.math.floor, base.string.sub, base.string.byte, base.string.format
local unpack, rep, len = base.unpack, base.string.rep, base.string.len
local gsub, gmatch, find = raw.text.gsub, raw.text.gmatch, raw.text.find
local concat, insert, remove, sort = base.table.concat, base.table.insert, base.table.remove, base.table.sort
local co_create, co_resume = base.coroutine.create, base.coroutine.resume
local co_status, co_yield = base.coroutine.status, base.coroutine.yield
local caught, taint, look = raw.caught, raw.taint, raw.look

-- The functions below, up to the builder, belong to the interpreter. Scripts have no access to their environment.
local HIDDEN = {}
-- The longest text, in bytes, that is loaded as code at run time.
local MOST_CODE = 1048576
local getfenv = base.getfenv
setfenv(1, HIDDEN)

local SHARED = {
  'gcinfo', 'ipairs', 'next', 'pairs', 'rawequal', 'rawget', 'rawset', 'select', 'setmetatable',
  'type', 'unpack', '_VERSION',
}

local function copy(from)
  local to = {}
  for key, value in pairs(from) do to[key] = value end
  return to
end

-- Errors, and calls that wait.

-- A message is copied several times on its way to the log. A long one is cut.
local MOST_MESSAGE = 65536
local function brief(message)
  if type(message) == 'string' and #message > MOST_MESSAGE then return sub(message, 1, MOST_MESSAGE) end
  return message
end

-- The level is counted from the caller of the script's `error`, which calls this.
local function failing(message, level)
  if type(level) ~= 'number' then level = 1 end
  if level > 0 then level = level + 2 end
  error(brief(message), level)
end

-- The place in the message is that of the caller of the script's `assert`, which calls this.
local function unasserted(...)
  local _, message = ...
  local kind = type(message)
  if select('#', ...) == 0 or kind ~= 'nil' and kind ~= 'string' and kind ~= 'number' then return assert(...) end
  error(kind == 'nil' and 'assertion failed!' or brief(message), 3)
end

-- Protected calls are coroutines: a call to another service can suspend the script within them.
local function finish(co, ok, ...)
  if not ok then return false, caught((...)) end
  if co_status(co) == 'suspended' then return finish(co, co_resume(co, co_yield(...))) end
  return true, ...
end

local function finish_raw(ok, ...)
  if not ok then return false, caught((...)) end
  return true, ...
end

local function protected(f, ...)
  local is_lua, co = raw_pcall(co_create, f)
  if not is_lua then return finish_raw(raw_pcall(f, ...)) end
  return finish(co, co_resume(co, ...))
end

local function handled(handler, ok, ...)
  if ok then return true, ... end
  return false, handler(...)
end

local PENDING = {}

-- A value that a script's own coroutine yields goes to the script. A wait goes to the gateway.
local function passed(co, ok, ...)
  if not ok then return false, caught((...)) end
  if (...) == PENDING and co_status(co) == 'suspended' then
    return passed(co, co_resume(co, co_yield(PENDING)))
  end
  return true, ...
end

local function rethrown(ok, ...)
  if not ok then error(brief((...)), 0) end
  return ...
end

-- Whether Lua itself rounds the text of a number. gopher-lua does not.
local function is_rounded(number)
  return number ~= floor(number) or number >= 1e14 or number <= -1e14
end

local function tostring(value)
  if type(value) == 'number' and is_rounded(value) then return raw.number_text(value) end
  return raw_tostring(value)
end

-- A number in the place of a text.
local function text_of(value)
  if type(value) == 'number' then return tostring(value) end
  return value
end

-- The length of a table is the result of its `__len`, as in gopher-lua. In scripts that use `__len`, `#` calls this.
local function length_of(value)
  if type(value) == 'table' then
    local metatable = raw_getmetatable(value)
    local length = type(metatable) == 'table' and rawget(metatable, '__len')
    if length then return (length(value)) end
  end
  return #value
end

-- A string may contain NUL bytes. Where Lua's own functions end it there, the functions below do not.
local function has_nul(text)
  return type(text) == 'string' and find(text, '\0', 1, true) ~= nil
end

local raw_tonumber = base.tonumber
local function tonumber(...)
  local number = raw_tonumber(...)
  if number ~= nil and has_nul((...)) then return nil end
  return number
end

-- A directive that prints nothing for its value, and the text that C would end at a NUL byte.
local function literal(text, flags, width)
  local missing = rep(' ', (raw_tonumber(width) or 0) - #text)
  if find(flags, '-', 1, true) then text = text .. missing else text = missing .. text end
  return '%.0s' .. gsub(text, '%%', '%%%%')
end

-- `%s` accepts any value, as in gopher-lua. So do `%v` and `%t`, which are Go's.
local function formatted(pattern, ...)
  pattern = text_of(pattern)
  if type(pattern) == 'string' and find(pattern, '%%[-+ #0]*%d*%.?%d*[vt]') then
    pattern = gsub(pattern, '%%([-+ #0]*%d*%.?%d*)(.)', function(flags, letter)
      if letter == 'v' or letter == 't' then letter = 's' end
      return '%' .. flags .. letter
    end)
  end
  local count, all_text, rounded = select('#', ...), type(pattern) == 'string', false
  for i = 1, count do
    local value = select(i, ...)
    local kind = type(value)
    if kind == 'string' and #value > 4096 then look(#value) end
    if kind ~= 'string' and kind ~= 'number' or has_nul(value) then all_text = false break end
    if kind == 'number' and is_rounded(value) then rounded = true end
  end
  if type(pattern) ~= 'string' then return format(pattern, ...) end
  if rounded and find(pattern, '%%[-+ #0]*%d*%.?%d*[sq]') then all_text = false end
  if all_text and not find(pattern, '%%[-+ #0]*%d*%.?%d*c') then return format(pattern, ...) end
  local values, at, by_c = { ... }, 0, true
  for letter in gmatch(pattern, '%%[-+ #0]*%d*%.?%d*(.)') do
    if letter ~= '%' then
      at = at + 1
      local kind = type(values[at])
      if at <= count and (letter == 's' and kind ~= 'string' or letter == 'q' and kind == 'number') then
        values[at] = tostring(values[at])
      end
      if letter == 'c' or letter == 's' and has_nul(values[at]) then by_c = false end
    end
  end
  if by_c then return format(pattern, unpack(values, 1, count)) end
  at = 0
  pattern = gsub(pattern, '%%([-+ #0]*)(%d*)(%.?%d*)(.)', function(flags, width, precision, letter)
    if letter == '%' then return nil end
    at = at + 1
    local value = values[at]
    -- Anything wrong is left to C, which raises an error.
    if at > count or #flags > 5 or #width > 2 or #precision > 3 then return nil end
    if letter == 's' and has_nul(value) then
      if precision ~= '' then value = sub(value, 1, raw_tonumber(sub(precision, 2)) or 0) end
      return literal(value, flags, width)
    end
    local code = letter == 'c' and tonumber(value)
    if code and floor(code) % 256 == 0 then return literal('\0', flags, width) end
  end)
  return format(pattern, unpack(values, 1, count))
end

-- Part of a string, which is copied.
local function cut(text, ...)
  text = text_of(text)
  if type(text) == 'string' and #text > 4096 then look(#text) end
  return sub(text, ...)
end

-- The text of a date. The function of C ends a pattern at its first NUL byte.
local raw_date = base.os.date
local function date(pattern, time)
  if not has_nul(pattern) then return raw_date(pattern, time) end
  time = time or base.os.time()
  local utc = sub(pattern, 1, 1) == '!' and '!' or ''
  return (gsub(sub(pattern, #utc + 1), '%Z+', function(piece) return raw_date(utc .. piece, time) end))
end

-- A name for the operating system. The function of C would use the part before the NUL byte: another file.
local REFUSED = 'a name or command cannot contain a NUL byte'
local function refusing(f, raises)
  return function(...)
    if has_nul((...)) or has_nul((select(2, ...))) then
      if raises then error(REFUSED, 2) end
      return nil, REFUSED
    end
    return f(...)
  end
end

-- Functions of `table` that move or compare many items in one instruction. The clock is checked before them.

local function ascending(a, b) return a < b end

local function table_sort(list, before)
  if before == nil then before = ascending end
  return sort(list, before)
end

local function table_insert(list, ...)
  if select('#', ...) > 1 then look() end
  return insert(list, ...)
end

local function table_remove(list, ...)
  if select('#', ...) > 0 then look() end
  return remove(list, ...)
end

-- The list with texts in place of its numbers, if Lua would round one of them.
local function unrounded(list, first, last)
  local texts
  for i = first, last do
    local value = rawget(list, i)
    local kind = type(value)
    -- The error is left to C.
    if kind ~= 'string' and kind ~= 'number' then return list end
    if kind == 'number' and is_rounded(value) then
      if not texts then
        texts = {}
        for j = first, i - 1 do texts[j] = rawget(list, j) end
      end
      value = raw.number_text(value)
    end
    if texts then texts[i] = value end
  end
  return texts or list
end

local function table_concat(list, between, first, last)
  look()
  if type(list) == 'table' then
    local from, to = raw_tonumber(first == nil and 1 or first), raw_tonumber(last == nil and #list or last)
    if from and to then
      first, last = from - from % 1, to - to % 1
      list = unrounded(list, first, last)
    end
  end
  return concat(list, text_of(between), first, last)
end

return function(env, level, open)
  for i = 1, #SHARED do env[SHARED[i]] = base[SHARED[i]] end
  env._G = env
  env.table = copy(base.table)
  env.table.sort = function(...) return table_sort(...) end
  env.table.insert = function(...) return table_insert(...) end
  env.table.remove = function(...) return table_remove(...) end
  env.table.concat = function(...) return table_concat(...) end

  env.error = function(message, level) failing(message, level) end
  env.assert = function(...)
    if (...) then return ... end
    unasserted(...)
  end
  env.pcall = function(f, ...) return protected(f, ...) end
  env.xpcall = function(f, handler) return handled(handler, protected(f)) end
  env.tostring = function(...)
    if select('#', ...) == 0 then error("bad argument #1 to 'tostring' (value expected)", 2) end
    return (tostring((...)))
  end
  env._LENGTH_OF = function(value) return length_of(value) end
  env.tonumber = function(...) return tonumber(...) end
  env.print = function(...)
    local words = {}
    for i = 1, select('#', ...) do words[i] = env.tostring((select(i, ...))) end
    raw.print(concat(words, '\t'))
  end
  env.collectgarbage = function(what)
    if what == nil or what == 'collect' then raw.collect(true) return 0 end
    if what == 'count' then return raw.collect(false) end
    return 0
  end
  -- Levels are counted from the caller, so one is added here.
  env.getfenv = function(f)
    if f == nil then f = 1 end
    if type(f) == 'number' and f > 0 then f = f + 1 end
    local found = getfenv(f)
    if found == HIDDEN then return env end
    return found
  end
  env.setfenv = function(f, new)
    if type(f) == 'number' and f > 0 then f = f + 1 end
    if f ~= 0 and getfenv(f) == HIDDEN then
      error("'setfenv' cannot change environment of given object", 2)
    end
    local changed = setfenv(f, new)
    return changed
  end
  -- Only userdata have finalizers (`__gc`), which run where no deadline ends them. So a proxy is a table, and of the
  -- metatable of a userdata a script gets a copy.
  env.newproxy = function(like)
    local metatable
    if like == true then metatable = {} elseif type(like) == 'table' then metatable = raw_getmetatable(like) end
    return base.setmetatable({}, metatable)
  end
  env.getmetatable = function(value)
    local metatable = raw_getmetatable(value)
    if type(value) == 'userdata' and type(metatable) == 'table' then return copy(metatable) end
    return metatable
  end

  -- Code that is loaded at run time.

  local function compiled(text, name)
    if byte(text, 1) == 27 then return nil, 'precompiled code is not loaded' end
    -- Lua cannot be interrupted while it reads a text.
    if #text > MOST_CODE then return nil, 'the text is too long to be loaded' end
    look(#text)
    name = brief(name)
    text = raw.lengths(text) or text
    local chunk, why = raw_loadstring(text, name)
    if not chunk then
      local older, reason = raw.older(text)
      if older then chunk, why = raw_loadstring(older, name) end
      if not chunk then return nil, reason or why end
    end
    return setfenv(chunk, env)
  end
  env.loadstring = function(text, name)
    if type(text) ~= 'string' then error("bad argument #1 to 'loadstring' (string expected)", 2) end
    return compiled(text, name or text)
  end
  env.load = function(f, name)
    local parts = {}
    while true do
      local part = f()
      if part == nil or part == '' then break end
      if type(part) ~= 'string' then return nil, 'reader function must return a string' end
      parts[#parts + 1] = part
    end
    return compiled(concat(parts), name or '=(load)')
  end
  env.loadfile = function(path)
    local text, why = raw.read_file(path)
    if not text then return nil, why end
    return compiled(text, '=' .. path)
  end
  env.dofile = function(path)
    local chunk, why = env.loadfile(path)
    if not chunk then error(brief(why), 2) end
    return chunk()
  end
  local package = { loaded = { _G = env, table = env.table }, preload = {}, path = './?.lua;./?/init.lua', cpath = '' }
  env.package = package
  env.require = function(name)
    local done = package.loaded[name]
    if done ~= nil then return done end
    if type(name) == 'string' and #name > MOST_MESSAGE then error('the name of the module is too long', 2) end
    local loader, tried = package.preload[name], {}
    if loader == nil then
      tried[1] = "module '" .. name .. "' not found: no field package.preload['" .. name .. "']"
      local file = gsub(name, '%.', '/')
      for pattern in gmatch(package.path, '[^;]+') do
        local path = gsub(pattern, '%?', (gsub(file, '%%', '%%%%')))
        local text, why = raw.read_file(path)
        if text then
          loader, why = compiled(text, '=' .. path)
          if not loader then error(brief("error loading module '" .. name .. "': " .. why), 2) end
          break
        end
        tried[#tried + 1] = why
      end
      if loader == nil then error(brief(concat(tried, '; ')), 2) end
    end
    package.loaded[name] = true
    local value = loader(name)
    if value ~= nil then package.loaded[name] = value end
    return package.loaded[name]
  end
  package.seeall = function(module) return base.setmetatable(module, { __index = env }) end
  env.module = function(name, ...)
    local module = package.loaded[name]
    if type(module) ~= 'table' then
      module = rawget(env, name)
      if module ~= nil and type(module) ~= 'table' then
        error("name conflict for module '" .. brief(name) .. "'", 2)
      end
      module = module or {}
      env[name], package.loaded[name] = module, module
    end
    module._M, module._NAME = module, name
    for i = 1, select('#', ...) do (select(i, ...))(module) end
    setfenv(2, module)
  end

  -- The functions of the gateway.

  env.luaTable = { new = raw.new_table }
  env.luaList = { new = raw.new_list }
  env.luaNil = { new = raw.new_nil }
  env.custom_error = raw.custom_error
  env.http_response = {
    new = function(...)
      raw.http_call(...)
      co_yield(PENDING)
      return raw.http_answer()
    end,
  }
  if level == 'endpoint' then
    env.ctx = { load = raw.load_ctx }
  else
    env.request = { load = raw.load_request }
  end

  if not open then return nil end

  local string = copy(base.string)
  for name, f in pairs(raw.text) do string[name] = f end
  string.format = function(...) return formatted(...) end
  string.sub = function(...) return cut(...) end
  string.len = function(text) return len(text_of(text)) end
  string.byte = function(text, ...) return byte(text_of(text), ...) end
  string.gfind, string.dump = string.gmatch, nil
  env.string = string

  local math = copy(base.math)
  math.random = function(low, high)
    local fraction = raw.random()
    if low == nil then return fraction end
    if high == nil then low, high = 1, low end
    if low > high then error("bad argument to 'random' (interval is empty)", 2) end
    return floor(fraction * (high - low + 1)) + low
  end
  math.randomseed = raw.randomseed
  env.math = math

  local os = copy(base.os)
  os.exit = function() error('os.exit: a script cannot end the gateway', 2) end
  os.setlocale = nil
  os.date = function(...) return date(...) end
  for _, name in pairs({ 'getenv', 'remove', 'rename' }) do os[name] = refusing(os[name]) end
  os.execute = refusing(os.execute, true)
  env.os = os

  -- Default files belong to the interpreter, and collecting the file of a process waits for its end.
  local io = copy(base.io)
  for _, name in pairs({ 'input', 'output', 'popen' }) do
    local f = io[name]
    io[name] = f and function(...) taint() return f(...) end
  end
  for _, name in pairs({ 'open', 'popen' }) do io[name] = refusing(io[name]) end
  for _, name in pairs({ 'input', 'lines', 'output' }) do io[name] = refusing(io[name], true) end
  env.io = io

  local coroutine = copy(base.coroutine)
  coroutine.resume = function(co, ...) return passed(co, co_resume(co, ...)) end
  coroutine.wrap = function(f)
    local co = co_create(f)
    return function(...) return rethrown(passed(co, co_resume(co, ...))) end
  end
  env.coroutine = coroutine

  env.debug = {
    traceback = raw.traceback,
    getinfo = function(level)
      if type(level) ~= 'number' then error('debug.getinfo: only levels are supported', 2) end
      -- Levels are counted from the caller, without this function and the inner one.
      return raw.getinfo(level + 1)
    end,
    getmetatable = env.getmetatable,
    setmetatable = base.setmetatable,
    getfenv = env.getfenv,
    setfenv = env.setfenv,
  }
  for _, name in pairs({ 'string', 'math', 'os', 'io', 'coroutine', 'debug' }) do package.loaded[name] = env[name] end
  return { __index = string }
end
