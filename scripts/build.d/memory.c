/*
 * musl for x86_64 copies and fills with "rep movsq" and "rep stosq", which take 30 ns before the first byte and half the
 * speed where a block is not aligned, and compares byte by byte. Links copy thousands of small blocks while they parse
 * their arguments, and decompressors do little else. SSE2 is part of x86_64. (Linked with --wrap: musl's own may be in
 * the link already.)
 */
#include <stddef.h>
#include <stdint.h>

/* To be read and written at any address and as part of any type. */
typedef long long v16 __attribute__((vector_size(16), may_alias, aligned(1)));
typedef uint64_t u8x8 __attribute__((aligned(1), may_alias));
typedef uint32_t u8x4 __attribute__((aligned(1), may_alias));
typedef uint16_t u8x2 __attribute__((aligned(1), may_alias));

/* From here on the processor's own loop is as quick as any. */
enum { LONG = 1024 };

/* Both ends are read before either is written, so that the blocks may overlap. */
#define ENDS(type) do { \
	type first = *(const type *)from, last = *(const type *)(from + n - sizeof(type)); \
	*(type *)to = first; \
	*(type *)(to + n - sizeof(type)) = last; \
} while (0)

static inline void up_to_16(unsigned char *to, const unsigned char *from, size_t n)
{
	if (n >= 8)
		ENDS(u8x8);
	else if (n >= 4)
		ENDS(u8x4);
	else if (n >= 2)
		ENDS(u8x2);
	else if (n)
		*to = *from;
}

/* Right for memmove too where `to` lies before `from`: what is read has not been written. */
static inline void upwards(unsigned char *to, const unsigned char *from, size_t n)
{
	unsigned char *end = to + n - 16;
	v16 last = *(const v16 *)(from + n - 16);

	for (; n > 64; to += 64, from += 64, n -= 64) {
		v16 a = ((const v16 *)from)[0], b = ((const v16 *)from)[1], c = ((const v16 *)from)[2], d = ((const v16 *)from)[3];
		((v16 *)to)[0] = a;
		((v16 *)to)[1] = b;
		((v16 *)to)[2] = c;
		((v16 *)to)[3] = d;
	}
	for (; n > 16; to += 16, from += 16, n -= 16)
		*(v16 *)to = *(const v16 *)from;
	*(v16 *)end = last;
}

static inline void downwards(unsigned char *to, const unsigned char *from, size_t n)
{
	v16 first = *(const v16 *)from;

	for (; n > 16; n -= 16)
		*(v16 *)(to + n - 16) = *(const v16 *)(from + n - 16);
	*(v16 *)to = first;
}

void *__wrap_memcpy(void *restrict dest, const void *restrict src, size_t n)
{
	if (n <= 16)
		up_to_16(dest, src, n);
	else if (n <= LONG)
		upwards(dest, src, n);
	else {
		void *to = dest;
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(src), "+c"(n) : : "memory");
	}
	return dest;
}

void *__wrap_memmove(void *dest, const void *src, size_t n)
{
	uintptr_t ahead = (uintptr_t)dest - (uintptr_t)src;

	if (n <= 16)
		up_to_16(dest, src, n);
	else if (ahead < n)
		downwards(dest, src, n);
	/* The processor's loop is slow where the blocks overlap. */
	else if (n > LONG && -ahead >= n)
		__wrap_memcpy(dest, src, n);
	else
		upwards(dest, src, n);
	return dest;
}

void *__wrap_memset(void *dest, int byte, size_t n)
{
	unsigned char *to = dest;
	uint64_t eight = (unsigned char)byte * UINT64_C(0x0101010101010101);

	if (n > LONG) {
		__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
	} else if (n >= 16) {
		v16 all = {(long long)eight, (long long)eight};
		*(v16 *)(to + n - 16) = all;
		for (; n > 16; to += 16, n -= 16)
			*(v16 *)to = all;
		*(v16 *)((unsigned char *)dest) = all;
	} else if (n >= 8) {
		*(u8x8 *)to = eight;
		*(u8x8 *)(to + n - 8) = eight;
	} else if (n >= 4) {
		*(u8x4 *)to = (uint32_t)eight;
		*(u8x4 *)(to + n - 4) = (uint32_t)eight;
	} else {
		for (; n; n--)
			*to++ = (unsigned char)byte;
	}
	return dest;
}

int __wrap_memcmp(const void *left, const void *right, size_t n)
{
	const unsigned char *l = left, *r = right;

	for (; n >= 8; l += 8, r += 8, n -= 8) {
		uint64_t a = *(const u8x8 *)l, b = *(const u8x8 *)r;
		if (a != b) {
			a = __builtin_bswap64(a);
			b = __builtin_bswap64(b);
			return a < b ? -1 : 1;
		}
	}
	for (; n; l++, r++, n--)
		if (*l != *r)
			return *l < *r ? -1 : 1;
	return 0;
}

int __wrap_bcmp(const void *left, const void *right, size_t n)
{
	return __wrap_memcmp(left, right, n);
}
