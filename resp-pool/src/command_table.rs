//! Commands whose nature is known by name.

/// Whether a command only reads. Names that are not listed are taken to write.
pub(crate) fn is_read_only(name: &[u8]) -> bool {
    listed(READ_ONLY, name)
}

/// Whether a command is one of the server's own that works on data itself. Then an error reply such
/// as `LOADING` or `READONLY` proves that it was not carried out. Scripts, functions and commands of
/// modules, which are not listed, may answer with such an error after they wrote something.
pub(crate) fn is_built_in(name: &[u8]) -> bool {
    let scripted = |name: &[u8]| {
        let runs = [&b"EVAL_RO"[..], b"EVALSHA_RO", b"FCALL_RO"];
        runs.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    listed(WRITING, name) || (listed(READ_ONLY, name) && !scripted(name))
}

/// In any letter case.
fn listed(table: &[&str], name: &[u8]) -> bool {
    const LONGEST: usize = 20;
    if name.len() > LONGEST {
        return false;
    }
    let mut upper = [0; LONGEST];
    let upper = &mut upper[..name.len()];
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    table.binary_search_by(|known| known.as_bytes().cmp(upper)).is_ok()
}

/// Sorted. Only reading, so that running them twice does no harm. Source: the commands with the flag `readonly` in `COMMAND` of Redis 7, and `ECHO` and
/// `PING`.
const READ_ONLY: &[&str] = &[
    "BITCOUNT",
    "BITFIELD_RO",
    "BITPOS",
    "DBSIZE",
    "DUMP",
    "ECHO",
    "EVALSHA_RO",
    "EVAL_RO",
    "EXISTS",
    "EXPIRETIME",
    "FCALL_RO",
    "GEODIST",
    "GEOHASH",
    "GEOPOS",
    "GEORADIUSBYMEMBER_RO",
    "GEORADIUS_RO",
    "GEOSEARCH",
    "GET",
    "GETBIT",
    "GETRANGE",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HRANDFIELD",
    "HSCAN",
    "HSTRLEN",
    "HVALS",
    "KEYS",
    "LCS",
    "LINDEX",
    "LLEN",
    "LPOS",
    "LRANGE",
    "MGET",
    "PEXPIRETIME",
    "PFCOUNT",
    "PING",
    "PTTL",
    "RANDOMKEY",
    "SCAN",
    "SCARD",
    "SDIFF",
    "SINTER",
    "SINTERCARD",
    "SISMEMBER",
    "SMEMBERS",
    "SMISMEMBER",
    "SORT_RO",
    "SRANDMEMBER",
    "SSCAN",
    "STRLEN",
    "SUBSTR",
    "SUNION",
    "TOUCH",
    "TTL",
    "TYPE",
    "XLEN",
    "XPENDING",
    "XRANGE",
    "XREAD",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZDIFF",
    "ZINTER",
    "ZINTERCARD",
    "ZLEXCOUNT",
    "ZMSCORE",
    "ZRANDMEMBER",
    "ZRANGE",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZRANK",
    "ZREVRANGE",
    "ZREVRANGEBYLEX",
    "ZREVRANGEBYSCORE",
    "ZREVRANK",
    "ZSCAN",
    "ZSCORE",
    "ZUNION",
];

/// Sorted. Source: the commands with the flag `write` in `COMMAND` of Redis 7, without those that are
/// for servers among themselves, and `PUBLISH`.
const WRITING: &[&str] = &[
    "APPEND",
    "BITFIELD",
    "BITOP",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "COPY",
    "DECR",
    "DECRBY",
    "DEL",
    "EXPIRE",
    "EXPIREAT",
    "FLUSHALL",
    "FLUSHDB",
    "GEOADD",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCHSTORE",
    "GETDEL",
    "GETEX",
    "GETSET",
    "HDEL",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HMSET",
    "HSET",
    "HSETNX",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "LINSERT",
    "LMOVE",
    "LMPOP",
    "LPOP",
    "LPUSH",
    "LPUSHX",
    "LREM",
    "LSET",
    "LTRIM",
    "MOVE",
    "MSET",
    "MSETNX",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PFADD",
    "PFMERGE",
    "PSETEX",
    "PUBLISH",
    "RENAME",
    "RENAMENX",
    "RESTORE",
    "RPOP",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SDIFFSTORE",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SINTERSTORE",
    "SMOVE",
    "SORT",
    "SPOP",
    "SPUBLISH",
    "SREM",
    "SUNIONSTORE",
    "UNLINK",
    "XACK",
    "XADD",
    "XAUTOCLAIM",
    "XCLAIM",
    "XDEL",
    "XREADGROUP",
    "XTRIM",
    "ZADD",
    "ZDIFFSTORE",
    "ZINCRBY",
    "ZINTERSTORE",
    "ZMPOP",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZRANGESTORE",
    "ZREM",
    "ZREMRANGEBYLEX",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
    "ZUNIONSTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted_and_found_in_any_letter_case() {
        assert!(READ_ONLY.is_sorted() && WRITING.is_sorted());
        assert!(READ_ONLY.iter().chain(WRITING).all(|name| name.len() <= 20));
        assert!(is_read_only(b"get") && is_read_only(b"GEORADIUSBYMEMBER_RO"));
        assert!(!is_read_only(b"SET") && !is_read_only(b"GETDEL") && !is_read_only(&[b'X'; 30]));
        assert!(!READ_ONLY.iter().any(|name| WRITING.contains(name)));
    }

    #[test]
    fn commands_that_run_user_code_are_not_built_in() {
        for name in ["EVAL", "evalsha", "eval_ro", "EVALSHA_RO", "FCALL", "FCALL_RO", "JSON.SET"] {
            assert!(!is_built_in(name.as_bytes()), "{name}");
        }
        for name in ["GET", "set", "XREADGROUP", "ZUNIONSTORE"] {
            assert!(is_built_in(name.as_bytes()), "{name}");
        }
    }
}
