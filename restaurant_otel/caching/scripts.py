"""What Redis must do in one step, in Lua. Constants only; `core` sends them.

Sent as text with EVAL: a few hundred bytes, and no second round trip after a restart or fail-over.
"""

from __future__ import annotations

from typing import Final

from restaurant_otel.caching.entry import HEADER_SIZE, SEQ_FIRST, SEQ_LAST, TIMES_OFFSET
from restaurant_otel.caching.marks import MARK_LIFE, MOST_PATTERNS

# Every script that touches the sequence number begins with this. A number that was lost is replaced by the
# clock's microseconds, which is more than any number counted up from an earlier clock, and marks everything.
_SEQUENCE: Final = """
local now = redis.call('TIME')
local sequence = redis.call('GET', KEYS[1])
if not tonumber(sequence or '') then
  sequence = now[1] .. string.format('%06d', now[2])
  redis.call('SET', KEYS[1], sequence)
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '*', sequence)
end
"""

LOAD_MARKS: Final = _SEQUENCE + "return {sequence, redis.call('HGETALL', KEYS[2])}"
"""KEYS: sequence, patterns. Returns the sequence number and the marks."""

MARK: Final = (
    _SEQUENCE
    + f"""
if ARGV[1] == 'pattern' and redis.call('HEXISTS', KEYS[2], 'p' .. ARGV[2]) == 0
   and redis.call('HLEN', KEYS[2]) > {MOST_PATTERNS} then
  return 0
end
sequence = redis.call('INCR', KEYS[1])
if ARGV[1] == 'all' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], '*', sequence)
elseif ARGV[1] == 'pattern' then
  redis.call('HSET', KEYS[2], 'p' .. ARGV[2], sequence)
else
  redis.call('SET', KEYS[3], sequence, 'EX', {MARK_LIFE})
end
return sequence
"""
)
"""KEYS: sequence, patterns, and for a tag its key. ARGV: 'all', 'pattern' or 'tag'; the pattern. Returns 0 where
there is no room for a further pattern."""

STORE: Final = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""
"""KEYS: value, lease. ARGV: the lease's token, the entry, ms to live. Stores only while the lease is held."""

RELEASE: Final = (
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
)
"""KEYS: lease or lock. ARGV: its token."""

RENEW: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
"""KEYS: lease or lock. ARGV: its token, ms."""

TOUCH: Final = f"""
local value = redis.call('GET', KEYS[1])
if not value or string.sub(value, {SEQ_FIRST}, {SEQ_LAST}) ~= ARGV[1] then return 0 end
redis.call('SETRANGE', KEYS[1], {TIMES_OFFSET}, ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
"""KEYS: value. ARGV: the sequence number it was read with; new times; ms to live."""

INCREMENT: Final = f"""
local value = redis.call('GET', KEYS[1])
local high, low = 0, 0
if value and #value >= {HEADER_SIZE} then high, low = struct.unpack('>I4I4', value, {SEQ_FIRST}) end
if high * 4294967296 + low >= tonumber(ARGV[1]) then
  local tags = string.byte(value, {HEADER_SIZE - 1}) * 256 + string.byte(value, {HEADER_SIZE})
  local number = string.sub(value, {HEADER_SIZE} + tags + 1)
  if string.sub(value, 3, 4) ~= 'j\\0' or not string.match(number, '^%-?%d+$') then
    return redis.error_reply('NOTANUMBER the value is not an integer')
  end
  number = string.format('%.0f', tonumber(number) + tonumber(ARGV[2]))
  redis.call('SET', KEYS[1], string.sub(value, 1, {HEADER_SIZE} + tags) .. number, 'KEEPTTL')
  redis.call('DEL', KEYS[2])
  return number
end
redis.call('SET', KEYS[1], ARGV[3] .. ARGV[2], 'PX', ARGV[4])
redis.call('DEL', KEYS[2])
return ARGV[2]
"""
"""KEYS: value, lease. ARGV: the least sequence number still valid, amount, header of a new
entry, ms to live. Keeps an existing entry's own expiry. Returns the number as text; exact below 2**53."""
