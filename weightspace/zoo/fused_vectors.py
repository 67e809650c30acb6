"""Vectors of lanes as types of Numba: what the fused CPU engine computes with, one lane per member.

A vector is one of the processor's registers with AVX-512 (sixteen lanes) or AVX (eight), and two with SSE or NEON.
Every operation acts on each lane alone, so that a lane's bits never depend on its neighbours.
"""

import inspect
import operator
import platform
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

HAS_AVX512 = bool(binding.get_host_cpu_features().get("avx512f"))
LANES = 16 if HAS_AVX512 else 8
"""Decides about speed only, not about results: a lane's bits do not depend on how many there are."""
VECTOR_BYTES = 4 * LANES
MASK_BYTES = LANES // 8 if HAS_AVX512 else VECTOR_BYTES
WORD_BYTES = 8
Vector = Any
"""What a kernel sees as `floats` or `words`; Python's type checkers cannot."""
FLOAT, BITS, INT32, INT64 = ir.FloatType(), ir.IntType(LANES), ir.IntType(32), ir.IntType(64)
FLOATS, WORDS, MASKS = (ir.VectorType(element, LANES) for element in (FLOAT, INT32, ir.IntType(1)))
HAS_SSE = platform.machine().lower() in ("x86_64", "amd64")
FLUSH_DENORMALS = 0x9FC0  # x86: results to zero, read as zero, no exceptions, round to nearest


class VectorType(types.Type):
    """A Numba type of lanes; a scalar of `element` becomes one with the same number in every lane."""

    def __init__(self, name: str, element: type[types.Type] | None) -> None:
        self.element = element
        super().__init__(name=name)

    def can_convert_from(self, typingctx: Any, other: types.Type) -> Conversion | None:
        """Let scalars stand where a vector is wanted."""
        return Conversion.safe if self.element is not None and isinstance(other, self.element) else None


floats = VectorType("Floats", types.Float)
words = VectorType("Words", types.Integer)
masks = VectorType("Masks", None)
VECTORS = {floats: FLOATS, words: WORDS, masks: MASKS}


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    """Hold a vector in an LLVM vector."""

    def __init__(self, dmm: Any, fe_type: VectorType) -> None:
        super().__init__(dmm, fe_type, VECTORS[fe_type])


def extend(function: Callable[..., Any]) -> Any:
    """Make a function that kernels can call, from one that says its types and builds its instructions."""
    return intrinsic(inspect.unwrap(function))  # a type checker may have wrapped it, which Numba cannot read


def repeat_lanes(builder: Any, scalar: Any, vector: ir.VectorType) -> Any:
    """Put one number in every lane."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    return builder.shuffle_vector(first, first, ir.Constant(WORDS, [0] * LANES))


@lower_cast(types.Float, floats)
def cast_float(context: Any, builder: Any, fromty: Any, toty: VectorType, value: Any) -> Any:
    """Round a scalar to float32 and repeat it."""
    return repeat_lanes(builder, builder.fptrunc(value, FLOAT) if fromty.bitwidth == 64 else value, FLOATS)


@lower_cast(types.Integer, words)
def cast_integer(context: Any, builder: Any, fromty: Any, toty: VectorType, value: Any) -> Any:
    """Keep the low 32 bits of a scalar and repeat them."""
    return repeat_lanes(builder, builder.trunc(value, INT32) if fromty.bitwidth > 32 else value, WORDS)


def define_operator(symbol: Any, operand: VectorType, result: VectorType, build: Callable[..., Any]) -> None:
    """Give an operator of Python a meaning for two vectors."""
    template = type("Vectors", (ConcreteTemplate,), {"key": symbol, "cases": [signature(result, operand, operand)]})
    register: Any = infer_global(symbol)
    register(template)
    lower_builtin(symbol, operand, operand)(lambda context, builder, sig, args: build(builder, *args))


define_operator(operator.add, floats, floats, lambda b, x, y: b.fadd(x, y))
define_operator(operator.sub, floats, floats, lambda b, x, y: b.fsub(x, y))
define_operator(operator.mul, floats, floats, lambda b, x, y: b.fmul(x, y))
define_operator(operator.truediv, floats, floats, lambda b, x, y: b.fdiv(x, y))
define_operator(operator.lt, floats, masks, lambda b, x, y: b.fcmp_ordered("<", x, y))
define_operator(operator.gt, floats, masks, lambda b, x, y: b.fcmp_ordered(">", x, y))
define_operator(operator.add, words, words, lambda b, x, y: b.add(x, y))
define_operator(operator.sub, words, words, lambda b, x, y: b.sub(x, y))
define_operator(operator.mul, words, words, lambda b, x, y: b.mul(x, y))
define_operator(operator.and_, words, words, lambda b, x, y: b.and_(x, y))
define_operator(operator.or_, words, words, lambda b, x, y: b.or_(x, y))
define_operator(operator.xor, words, words, lambda b, x, y: b.xor(x, y))
define_operator(operator.lshift, words, words, lambda b, x, y: b.shl(x, y))
define_operator(operator.rshift, words, words, lambda b, x, y: b.lshr(x, y))
define_operator(operator.ge, words, masks, lambda b, x, y: b.icmp_unsigned(">=", x, y))
define_operator(operator.eq, words, masks, lambda b, x, y: b.icmp_unsigned("==", x, y))


def define_call(result: types.Type, arguments: tuple[types.Type, ...], build: Callable[..., Any]) -> Any:
    """Make a function that kernels can call, from what builds its LLVM instructions."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = build(builder, *args)
        return context.get_dummy_value() if result is types.void else value

    sig = result(*arguments)
    if not arguments:
        return extend(lambda typingctx: (sig, generate))
    if len(arguments) == 1:
        return extend(lambda typingctx, x: (sig, generate))
    if len(arguments) == 2:
        return extend(lambda typingctx, x, y: (sig, generate))
    return extend(lambda typingctx, x, y, z: (sig, generate))


def point_to(builder: Any, address: Any, index: Any, target: Any) -> Any:
    """Point to one of many `target` that lie from an address on."""
    base = builder.inttoptr(address, ir.PointerType(target))
    return builder.gep(base, [index])


def load_vector(vector: Any) -> Callable[..., Any]:
    """Build a load that needs no alignment."""
    return lambda b, address, index: b.load(point_to(b, address, index, vector), align=4)


def store_vector(vector: Any) -> Callable[..., Any]:
    """Build a store that needs no alignment."""
    return lambda b, address, index, value: b.store(value, point_to(b, address, index, vector), align=4)


def call_llvm(name: str, result: Any) -> Callable[..., Any]:
    """Build a call of an intrinsic function of LLVM."""

    def build(builder: Any, *args: Any) -> Any:
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return build


def load_lanes(builder: Any, address: Any, index: Any) -> Any:
    """Load a mask from what `store_lanes` wrote."""
    if HAS_AVX512:
        return builder.bitcast(builder.load(point_to(builder, address, index, BITS), align=1), MASKS)
    return builder.icmp_signed("<", load_vector(WORDS)(builder, address, index), ir.Constant(WORDS, None))


def store_lanes(builder: Any, address: Any, index: Any, mask: Any) -> Any:
    """Store a mask as the processor holds it: a bit a lane with AVX-512, else a word, which needs no unpacking."""
    if HAS_AVX512:
        return builder.store(builder.bitcast(mask, BITS), point_to(builder, address, index, BITS), align=1)
    return store_vector(WORDS)(builder, address, index, builder.sext(mask, WORDS))


load = define_call(floats, (types.intp, types.intp), load_vector(FLOATS))
store = define_call(types.void, (types.intp, types.intp, floats), store_vector(FLOATS))
load_integer = define_call(types.intp, (types.intp, types.intp), lambda b, at, i: b.load(point_to(b, at, i, INT64)))
load_words = define_call(words, (types.intp, types.intp), load_vector(WORDS))
load_mask = define_call(masks, (types.intp, types.intp), load_lanes)
store_mask = define_call(types.void, (types.intp, types.intp, masks), store_lanes)
load_at = define_call(
    floats,
    (types.intp, types.intp, types.intp),
    lambda b, address, index, step: load_vector(FLOATS)(b, address, b.add(index, step)),
)
zeros = define_call(floats, (), lambda b: ir.Constant(FLOATS, None))
repeat_word = define_call(words, (types.intp,), lambda b, x: repeat_lanes(b, b.trunc(x, INT32), WORDS))
select = define_call(floats, (masks, floats, floats), lambda b, mask, x, y: b.select(mask, x, y))
select_mask = define_call(masks, (masks, masks, masks), lambda b, mask, x, y: b.select(mask, x, y))
bits_of = define_call(words, (floats,), lambda b, x: b.bitcast(x, WORDS))
floats_of = define_call(floats, (words,), lambda b, x: b.bitcast(x, FLOATS))
to_floats = define_call(floats, (words,), lambda b, x: b.sitofp(x, FLOATS))
# Not llvm.fma: where a processor has no fused multiply-add, that one is a slow call.
fma = define_call(floats, (floats, floats, floats), call_llvm(f"llvm.fmuladd.v{LANES}f32", FLOATS))
sqrt = define_call(floats, (floats,), call_llvm(f"llvm.sqrt.v{LANES}f32", FLOATS))
absolute = define_call(floats, (floats,), call_llvm(f"llvm.fabs.v{LANES}f32", FLOATS))


@extend
def call_kernel(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the compiled function at an address with a tuple of integers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        numbers = cgutils.unpack_tuple(builder, args[1])
        kind = ir.FunctionType(ir.VoidType(), [INT64] * len(numbers))
        builder.call(builder.inttoptr(args[0], ir.PointerType(kind)), numbers)
        return context.get_dummy_value()

    return types.void(types.intp, arguments), generate


def transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Swap lanes and rows of a square of as many vectors by swapping halves, quarters and so on."""
    for step in (step for step in (8, 4, 2, 1) if step < LANES):
        for i in (i for i in range(LANES) if not i & step):
            upper, lower = rows[i], rows[i + step]
            left = [j if not j & step else LANES + j - step for j in range(LANES)]
            right = [j + step if not j & step else LANES + j for j in range(LANES)]
            rows[i] = builder.shuffle_vector(upper, lower, ir.Constant(WORDS, left))
            rows[i + step] = builder.shuffle_vector(upper, lower, ir.Constant(WORDS, right))
    return rows


@extend
def gather_square(typingctx: Any, table: Any, width: Any, rows: Any, column: Any, out: Any) -> Any:
    """Copy as many numbers as there are lanes, of as many rows of a table, so that each row ends in one lane.

    `table` is the address of float32 rows of `width` numbers, `rows` that of int32 row numbers, a lane each, `out` that
    of as many vectors.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        table, width, rows, column, out = args
        read = []
        for lane in range(LANES):
            row = builder.sext(builder.load(point_to(builder, rows, INT64(lane), INT32), align=4), INT64)
            start = point_to(builder, table, builder.add(builder.mul(row, width), column), FLOAT)
            read.append(builder.load(builder.bitcast(start, ir.PointerType(FLOATS)), align=4))
        for lane, vector in enumerate(transpose(builder, read)):
            store_vector(FLOATS)(builder, out, INT64(lane), vector)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp, types.intp), generate


@extend
def set_float_mode(typingctx: Any, mode: Any) -> Any:
    """Set how this thread treats denormal numbers and return what was set before; does nothing but on x86."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not HAS_SSE:
            return args[0]
        place = builder.alloca(INT32)
        raw = builder.bitcast(place, ir.PointerType(ir.IntType(8)))
        call_llvm("llvm.x86.sse.stmxcsr", ir.VoidType())(builder, raw)
        before = builder.zext(builder.load(place), INT64)
        builder.store(builder.trunc(args[0], INT32), place)
        call_llvm("llvm.x86.sse.ldmxcsr", ir.VoidType())(builder, raw)
        return before

    return types.intp(types.intp), generate
