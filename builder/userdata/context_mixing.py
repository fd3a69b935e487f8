"""Context mixing: text in some 12 % less than LZMA takes, for a decoder that is short enough to go along.

The content is told in bits. What comes next is guessed from what followed the same contexts before: the last one, two
and three bytes, the word and the line so far, the file's beginning. Each context has counted, for each bit of a byte,
how often it was 0 and 1; their guesses are added up as logits, with weights that follow whoever was right. A bit that
was expected then takes a small fraction of a digit. Where the last six bytes have been there before, one bit first
tells whether the byte is again the one that followed them.

Encoder and decoder have to guess alike to the last bit, on every machine and Python: all of it is integers, and the
tables that need a logarithm are rounded.
"""

from __future__ import annotations

import math
from typing import Final

# The model's numbers, in the decoder as well.
_MOST: Final = 63
_COUNTS: Final = range(_MOST + 1)
_CONTEXTS: Final = 8
_ONE: Final = 1 << 16
_NARROW: Final = 1 << 24

# Counts of zeros and ones, as zeros * 64 + ones -> the logit of their share, in 256ths.
_LOGIT: Final = [round(256 * math.log((10 * ones + 1) / (10 * zeros + 1))) for zeros in _COUNTS for ones in _COUNTS]
# A logit, from -2048 to 2047, negative ones from the end -> probability of a 1, in 65536ths.
_PROBABILITY: Final = [round(_ONE / (1 + math.exp(-at / 256))) for at in (*range(2048), *range(-2048, 0))]
# Counts -> the counts after a 0, and after a 1. Of the other one half of what is above five is forgotten.
_AFTER: Final = (
    [min(zeros + 1, _MOST) * 64 + min(ones, (ones + 5) >> 1) for zeros in _COUNTS for ones in _COUNTS],
    [min(zeros, (zeros + 5) >> 1) * 64 + min(ones + 1, _MOST) for zeros in _COUNTS for ones in _COUNTS],
)

DECODER: Final = r"""def unpack(t):
 R=range(64);x=m=0;r=1;h=w=l=f=b'';d=bytearray();A={};T={};W=[[8000]*8]*27
 L=[round(256*math.log((10*b+1)/(10*a+1)))for a in R for b in R]
 E=[round(65536/(1+math.exp(-i/256)))for i in[*range(2048),*range(-2048,0)]]
 N=[(min(a+1,63)*64+min(b,b+5>>1),min(a,a+5>>1)*64+min(b+1,63))for a in R for b in R]
 def bit(k):
  nonlocal x,r
  s=[c.get(k,0)for c in C];z=[L[i]for i in s];j=(m>0)+(k>255)+3*sum(map(bool,s))
  p=E[max(-2048,min(2047,sum([a*b for a,b in zip(W[j],z)])>>16))]
  while r<1<<24:r*=BASE;x=x*BASE+next(t,0)
  q=r*p>>16;y=x<q
  if y:r=q
  else:x-=q;r-=q
  W[j]=[a+(b*(y*65536-p)>>16)for a,b in zip(W[j],z)]
  for c,i in zip(C,s):c[k]=N[i][y]
  return y
 while len(d)<SIZE:
  C=[T.setdefault(i,{})for i in enumerate((b'',h[-1:],h[-2:],h[-3:],w,l,f+h[-1:],f+h[-2:]))]
  m=m or A.get(h,0);A[h]=len(d);k=1
  if m and bit(256+d[m]):k=256+d[m];m+=1
  else:
   while k<256:k+=k+bit(k)
   m=0
  c=bytes([k-256]);d+=c;h=(h+c)[-6:];w=(w+c)*c.isalnum();l=(l+c)[:3]*(c!=b'\n');f=(f+c)[:8]*(c>b'\0')
 return bytes(d)
"""
"""Python for `unpack`, which needs `math`: an iterator of digits -> the content, of SIZE bytes; BASE is the digits'.

Its names: x and r are the coder's number and range; d the content so far; h, w, l and f its last six bytes, its
word, and the beginnings of its line and its file; m the place of the guessed byte and A where every six bytes were
last; T the counts of all contexts and C those of this place; W the weights; L, E and N the tables above.
"""


def encode(content: bytes, base: int) -> list[int]:
    """The content as digits of that base, which is at most 256."""
    coder = _Coder(base)
    model = _Model(coder)
    for byte in content:
        model.tell(byte)
    return coder.digits()


class _Coder:
    """Arithmetic coding: each bit narrows an interval; any number in the last one tells all bits.

    The number where the interval begins grows by a digit at a time: `_low` is the end of it, which is still counted
    with, and `_digits` are those before, with zeros in front of the first.
    """

    def __init__(self, base: int) -> None:
        self._base, self._low, self._range = base, 0, 1
        self._digits: list[int] = []
        # No range is wider than this many digits.
        self._width = math.ceil(math.log(_NARROW * base, base)) + 1
        self._end = base**self._width

    def tell(self, bit: int, probability: int) -> None:
        """A bit; the probability of a 1, in 65536ths."""
        while self._range < _NARROW:
            self._range *= self._base
            digit, self._low = divmod(self._low * self._base, self._end)
            self._digits.append(0)
            self._add(digit)
        ones = self._range * probability >> 16
        if bit:
            self._range = ones
        else:
            self._low += ones
            self._range -= ones

    def _add(self, number: int) -> None:
        """To the digits; what carries goes to those before."""
        at = len(self._digits) - 1
        while number:
            number, self._digits[at] = divmod(self._digits[at] + number, self._base)
            at -= 1

    def digits(self) -> list[int]:
        """A number in the interval, without the zeros at its end: the decoder puts them there."""
        place = 1
        while place * self._base < self._range:
            place *= self._base
        carry, low = divmod((self._low + place - 1) // place * place, self._end)
        self._add(carry)
        last = []
        for _ in range(self._width):
            low, digit = divmod(low, self._base)
            last.append(digit)
        digits = (self._digits + last[::-1])[self._width :]
        while digits and not digits[-1]:
            del digits[-1]
        return digits


class _Model:
    """What is expected next."""

    def __init__(self, coder: _Coder) -> None:
        self._coder = coder
        self._weights = [(8000,) * _CONTEXTS] * (3 * (_CONTEXTS + 1))
        self._counts: dict[tuple[int, bytes], dict[int, int]] = {}
        self._here: list[dict[int, int]] = []
        self._content = bytearray()
        self._places: dict[bytes, int] = {}
        self._place = 0
        self._last = self._word = self._line = self._file = b""

    def tell(self, byte: int) -> None:
        self._look()
        if self._place and self._bit(256 + self._content[self._place], byte == self._content[self._place]):
            self._place += 1
        else:
            for at in range(8):
                self._bit((256 + byte) >> (8 - at), byte >> (7 - at) & 1)
            self._place = 0
        self._go_on(bytes([byte]))

    def _look(self) -> None:
        """Finds the counts of the contexts, and the place where the last bytes have been before."""
        last, start = self._last, self._file
        contexts = (b"", last[-1:], last[-2:], last[-3:], self._word, self._line, start + last[-1:], start + last[-2:])
        self._here = [self._counts.setdefault(context, {}) for context in enumerate(contexts)]
        self._place = self._place or self._places.get(last, 0)
        self._places[last] = len(self._content)

    def _bit(self, node: int, bit: int) -> int:
        """Tells one bit. `node`: 1 and the byte's bits before it, or 256 and the guessed byte.

        The eight contexts are written out: going through lists of them took nearly twice as long.
        """
        # fmt: off
        a, b, c, d, e, f, g, h = self._here
        of_a, of_b, of_c, of_d = a.get(node, 0), b.get(node, 0), c.get(node, 0), d.get(node, 0)
        of_e, of_f, of_g, of_h = e.get(node, 0), f.get(node, 0), g.get(node, 0), h.get(node, 0)
        # Weights differ by what is told, and by how many of the contexts know it.
        unknown = (of_a, of_b, of_c, of_d, of_e, of_f, of_g, of_h).count(0)
        kind = (self._place > 0) + (node > 255) + 3 * (_CONTEXTS - unknown)
        wa, wb, wc, wd, we, wf, wg, wh = self._weights[kind]
        logit = _LOGIT
        la, lb, lc, ld, le, lf, lg, lh = (
            logit[of_a], logit[of_b], logit[of_c], logit[of_d], logit[of_e], logit[of_f], logit[of_g], logit[of_h],
        )
        total = (wa * la + wb * lb + wc * lc + wd * ld + we * le + wf * lf + wg * lg + wh * lh) >> 16
        probability = _PROBABILITY[total if -2048 < total < 2047 else max(-2048, min(2047, total))]
        self._coder.tell(bit, probability)
        by = bit * _ONE - probability
        self._weights[kind] = (
            wa + (la * by >> 16), wb + (lb * by >> 16), wc + (lc * by >> 16), wd + (ld * by >> 16),
            we + (le * by >> 16), wf + (lf * by >> 16), wg + (lg * by >> 16), wh + (lh * by >> 16),
        )
        after = _AFTER[bit]
        a[node], b[node], c[node], d[node] = after[of_a], after[of_b], after[of_c], after[of_d]
        e[node], f[node], g[node], h[node] = after[of_e], after[of_f], after[of_g], after[of_h]
        # fmt: on
        return bit

    def _go_on(self, byte: bytes) -> None:
        self._content += byte
        self._last = (self._last + byte)[-6:]
        self._word = self._word + byte if byte.isalnum() else b""
        self._line = b"" if byte == b"\n" else (self._line + byte)[:3]
        self._file = b"" if byte == b"\0" else (self._file + byte)[:8]
