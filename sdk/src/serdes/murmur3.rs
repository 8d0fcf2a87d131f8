//! Owns the hash by which a foreign-key join knows whether an answer is to the value there is: Kafka Streams' `Murmur3`,
//! its 128 bits. Must not know what is hashed.

const SEED: u64 = 104_729;
const FIRST: u64 = 0x87c3_7b91_1142_53d5;
const SECOND: u64 = 0x4cf5_ad43_2745_937f;

pub(crate) fn hash128(data: &[u8]) -> u128 {
    let first = |word: u64| word.wrapping_mul(FIRST).rotate_left(31).wrapping_mul(SECOND);
    let second = |word: u64| word.wrapping_mul(SECOND).rotate_left(33).wrapping_mul(FIRST);
    let (mut one, mut two) = (SEED, SEED);
    let (blocks, rest) = data.as_chunks::<16>();
    for block in blocks {
        let (low, high) = words(*block);
        one = (one ^ first(low)).rotate_left(27).wrapping_add(two).wrapping_mul(5).wrapping_add(0x52dc_e729);
        two = (two ^ second(high)).rotate_left(31).wrapping_add(one).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    // The zeros behind what is left change nothing.
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let (low, high) = words(last);
    let length = data.len() as u64;
    one ^= first(low) ^ length;
    two ^= second(high) ^ length;
    one = one.wrapping_add(two);
    two = two.wrapping_add(one);
    one = finish(one);
    two = finish(two);
    one = one.wrapping_add(two);
    two = two.wrapping_add(one);
    u128::from(one) << 64 | u128::from(two)
}

fn words(block: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(block);
    (low_bits(both), low_bits(both >> 64))
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low_bits(number: u128) -> u64 {
    number as u64
}

fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::hash128;

    /// What `Murmur3.hash128` of Kafka Streams 4.3.1 answers.
    #[test]
    fn the_hash_is_kafkas() {
        let check = |text: &str, expected: u128| assert_eq!(hash128(text.as_bytes()), expected, "{text}");
        check("", 0x9d27_64a0_18e3_2942_8c3c_f3b0_3593_8518);
        check("a", 0x3361_634e_7e0f_5188_e9c7_dda2_4eae_326b);
        check("0123456", 0x50a4_f1e3_8468_e368_a101_6e77_e554_4c1b);
        check("01234567", 0xf0f2_6ea8_8e93_512b_6ada_05b8_26e7_5471);
        check("012345678", 0xb5f2_83ed_11a7_d3d5_eef5_dbc1_0b83_43fe);
        check("0123456789abcde", 0xc480_e6b5_c001_6979_a0d0_3362_4a7f_7904);
        check("0123456789abcdef", 0x1a6e_941e_c6a7_6967_d7d8_2808_f505_d6b1);
        check("0123456789abcdefg", 0xa936_35c3_ece7_b605_aeed_6784_d1b0_8b32);
        check("größe und mehr als zweiunddreißig bytes lang", 0xef50_638e_c3ff_bb58_3a56_400a_3419_e71c);
    }
}
