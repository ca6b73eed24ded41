"""The scripts of the journal, in the store's Lua: each is done whole or not at all.

All but the first and the last begin by looking whether whoever calls still is the owner.
"""

_OWNED = """
local counter, mine = tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1])
if counter > mine then return 'lost' end
if counter < mine then return 'forgotten' end
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'lost' end
local function newer(one, other)
  local fence, number = string.match(one, '^(%d+)%-(%d+)$')
  local fence2, number2 = string.match(other, '^(%d+)%-(%d+)$')
  fence, fence2 = tonumber(fence), tonumber(fence2)
  return fence > fence2 or (fence == fence2 and tonumber(number) > tonumber(number2))
end
"""
"""Keys 1 and 2 of each script are the counter and the holder, its first two arguments the number
and the token of this owner: after a loss of memory, somebody else's number may be the same.
"""

TAKE = """
-- KEYS: fence, holder, owner, in flight, journal. ARGV: token, lease in ms.
local owner = redis.call('GET', KEYS[3])
if owner and owner ~= ARGV[1] then return {} end
if owner and redis.call('GET', KEYS[2]) == ARGV[1] then
  -- taken already, and the answer was lost
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
  local mine = tonumber(redis.call('GET', KEYS[1]))
  local had = redis.call('HMGET', KEYS[4], 'first', 'last', 'strikes', 'trial')
  if not had[1] then return {mine} end
  return {mine, had[1], had[2], tonumber(had[3]), had[4] or ''}
end
local newest = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
if newest then
  local used = tonumber(string.match(newest[1], '^%d+'))
  if used > tonumber(redis.call('GET', KEYS[1]) or '0') then redis.call('SET', KEYS[1], used) end
end
local fence = redis.call('INCR', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
local mark = redis.call('HMGET', KEYS[4], 'first', 'last', 'trial')
if not mark[1] then return {fence} end
return {fence, mark[1], mark[2], redis.call('HINCRBY', KEYS[4], 'strikes', 1), mark[3] or ''}
"""

APPEND = (
    """
-- KEYS: .., owner, in flight, journal. ARGV: .., lease in ms, number of the first, entries.
"""
    + _OWNED
    + """
local first, last
for index = 5, #ARGV do
  last = ARGV[1] .. '-' .. string.format('%d', ARGV[4] + index - 5)
  first = first or last
  redis.call('XADD', KEYS[5], last, 'entry', ARGV[index])
end
redis.call('DEL', KEYS[4])
redis.call('HSET', KEYS[4], 'first', first, 'last', last)
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
return 'ok'
"""
)

SETTLE = (
    """
-- KEYS: .., journal. ARGV: .., id that is looked for, barrier's id and entry.
"""
    + _OWNED
    + """
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if newest and newest[1] == ARGV[4] and newest[2][2] == ARGV[5] then return 'ok' end
if newest and newest[1] == ARGV[3] then return 'done' end
redis.call('XADD', KEYS[3], ARGV[4], 'entry', ARGV[5])
return 'ok'
"""
)

RENEW = (
    """
-- KEYS: .., owner, in flight. ARGV: .., lease in ms, id of the last entry that is solved.
"""
    + _OWNED
    + """
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local mark = redis.call('HGET', KEYS[4], 'last')
if mark and not newer(mark, ARGV[4]) then redis.call('DEL', KEYS[4]) end
return 'ok'
"""
)

RECLAIM = """
-- KEYS: fence, holder, owner. ARGV: fence, token, lease in ms.
local owner = redis.call('GET', KEYS[3])
if owner and owner ~= ARGV[2] then return 'lost' end
if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 'lost' end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
return 'ok'
"""

SAVE = (
    """
-- KEYS: .., snapshot, requests, journal. ARGV: .., id of the last entry in it, content, most
-- segments; then, to leave the entries behind: a segment of remembered requests.
"""
    + _OWNED
    + """
local was = redis.call('HGET', KEYS[3], 'last')
-- One that comes late, on a connection that was given up, would bring back what is trimmed.
if was and newer(was, ARGV[3]) then return 'ok' end
redis.call('HSET', KEYS[3], 'last', ARGV[3], 'content', ARGV[4])
if ARGV[6] then
  if ARGV[6] ~= '[]' and redis.call('LINDEX', KEYS[4], -1) ~= ARGV[6] then
    redis.call('RPUSH', KEYS[4], ARGV[6])
  end
  redis.call('LTRIM', KEYS[4], -ARGV[5], -1)
  redis.call('XTRIM', KEYS[5], 'MINID', ARGV[3])
end
return 'ok'
"""
)

TRY = (
    """
-- KEYS: .., owner, in flight. ARGV: .., lease in ms, id of the entry that is tried, or ''.
"""
    + _OWNED
    + """
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[4], 'trial')
else
  redis.call('HSET', KEYS[4], 'trial', ARGV[4])
end
return 'ok'
"""
)

VOID = (
    """
-- KEYS: .., owner, in flight, journal. ARGV: .., lease in ms, id and entry that voids.
"""
    + _OWNED
    + """
redis.call('XADD', KEYS[5], ARGV[4], 'entry', ARGV[5])
redis.call('HDEL', KEYS[4], 'trial')
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
return 'ok'
"""
)

RELEASE = """
-- KEYS: owner. ARGV: token.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
