"""What each operation of torch does to receptive fields: one small rule each, found by the name.

An operation without a rule is taken to see all of its inputs from everywhere, as an upper bound, and is
reported: never guessed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from striate.explain.operations import RECURRENCES, Step, window_of
from striate.explain.receptive_field import Field, Status, Track, concatenated, joined

__all__ = ["CONSTANTS", "fields_after", "is_understood", "is_value_by_value", "padded_field"]

Look = Callable[[Tensor], Field | None]
"""The field of a tensor, None where it does not depend on the input."""

Rule = Callable[[Step, Track], Track]


def fields_after(step: Step, look: Look) -> list[Field | None]:
    """The field of each output of `step`."""
    fields = [look(tensor) for tensor in step.tensors]
    there = [field for field in fields if field is not None]
    if not there or step.name in CONSTANTS:
        return [None] * len(step.output_shapes)
    if step.name in ("cat", "stack"):
        return [_concatenated(step, look)]
    if step.name in _PRODUCTS:
        return [_product(step, look)]
    if step.name in _PIECES:
        return _pieces(step, there[0])
    if is_value_by_value(step):
        joins = _transposed([[*field] for field in there])
        return [tuple(joined(tracks, shape) for tracks in joins) for shape in step.output_shapes]
    if step.name in RECURRENCES:
        rules = [_recurrent] + [_last_state] * (len(step.output_shapes) - 1)
        return [_by(rule, step, fields, shape) for rule, shape in zip(rules, step.output_shapes, strict=True)]
    rule = _windowed if window_of(step) else _RULES.get(step.name, _lost)
    if step.name in _LOOKUPS and any(field is not None for field in fields[1:]):
        rule = _depends
    return [_by(rule, step, fields, shape) for shape in step.output_shapes]


def is_understood(step: Step) -> bool:
    """Whether there is a rule for `step`."""
    known = (_RULES, _PRODUCTS, _PIECES, CONSTANTS, RECURRENCES, ("cat", "stack"))
    return (
        is_value_by_value(step) or window_of(step) is not None or any(step.name in names for names in known)
    )


def padded_field(field: Field, shape: Sequence[int], margins: Sequence[int]) -> Field:
    """Behind padding to `shape`; `margins` are F.pad's: cells before and after, last axis first."""

    def padded(track: Track) -> Track:
        for place, before in enumerate(margins[::2]):
            axis = len(shape) - 1 - place
            track = _extended(track, axis, before, margins[2 * place + 1], shape[axis])
        return track

    return tuple(map(padded, field))


def is_value_by_value(step: Step) -> bool:
    """Whether each value is made of those at its own place alone."""
    return step.name in _JOINS or (step.is_pointwise and step.name not in _RULES)


def _by(rule: Rule, step: Step, fields: Sequence[Field | None], shape: Sequence[int]) -> Field:
    """By the `rule` for the first tensor; what else the operation reads may matter everywhere."""
    source, others = fields[0], [field for field in fields[1:] if field is not None]
    found = [] if source is None else [tuple(_shaped(rule(step, track), shape) for track in source)]
    status = Status.DATA_DEPENDENT if rule is _depends else Status.UPPER_BOUND
    rest = [tuple(track.total(shape, status) for track in field) for field in others]
    return tuple(joined(tracks, shape) for tracks in _transposed([[*field] for field in found + rest]))


def _shaped(track: Track, shape: Sequence[int]) -> Track:
    """`track`, or what is sure of it where a second output (indices, statistics) has another shape."""
    return track if track.shape == tuple(shape) else track.lost(shape)


def _transposed(rows: Sequence[Sequence[Track]]) -> list[list[Track]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _concatenated(step: Step, look: Look) -> Field | None:
    # Legacy: an empty tensor of one axis may stand in any list, and adds nothing.
    tensors = [t for t in step.arguments["tensors"] if step.name == "stack" or t.shape != (0,)]
    axis = step.arguments["dim"] % len(step.shape)
    fields = [look(tensor) for tensor in tensors]
    lengths = [1 if step.name == "stack" else tensor.shape[axis] for tensor in tensors]
    if step.name == "stack":
        fields = [field and tuple(track.unsqueezed(axis) for track in field) for field in fields]
    count = next(len(field) for field in fields if field is not None)
    rows = [[None] * count if field is None else [*field] for field in fields]
    found = [concatenated(column, lengths, axis) for column in zip(*rows, strict=True)]
    return tuple(track for track in found if track is not None)


def _product(step: Step, look: Look) -> Field:
    """A row of the one and a column of the other make each value: their common axis is summed away."""
    left, right, *added = (step.arguments[name] for name in _PRODUCTS[step.name])
    vector = right.ndim == 1
    fields = []
    if (field := look(left)) is not None:
        last = left.ndim - 1
        tracks = tuple(track.contracted([last], [1]) for track in field)
        fields.append(tuple(track.without([last]) for track in tracks) if vector else tracks)
    if (field := look(right)) is not None:
        axis = max(0, right.ndim - 2)
        tracks = tuple(track.contracted([axis], [1]) for track in field)
        tracks = tuple(track.without([axis]) for track in tracks) if vector else tracks
        # One pair of tokens sees two of them only, until a sum over all of the second joins them.
        both = bool(fields) and any(track.moves for track in tracks)
        fields.append(tuple(_every_column(track) if both else track for track in tracks))
    fields += [field for tensor in added if (field := look(tensor)) is not None]
    return tuple(joined(tracks, step.shape) for tracks in _transposed([[*field] for field in fields]))


def _every_column(track: Track) -> Track:
    last = len(track.axes) - 1
    length = track.shape[last]
    column = track.contracted([last], [length])
    loose = tuple(digit._replace(loose=True) for digit in column.axes[last])
    return Track(column.size, column.start, (*column.axes[:last], loose), column.status)


def _pieces(step: Step, field: Field) -> list[Field | None]:
    """The slices that a tensor is cut into."""
    axis = step.arguments["dim"] % len(step.source_shape)
    unbound = step.name == "unbind"
    pieces: list[Field | None] = []
    first = 0
    for shape in step.output_shapes:
        length = 1 if unbound else shape[axis]
        tracks = tuple(track.sliced(axis, first, 1, length) for track in field)
        pieces.append(tuple(track.without([axis]) for track in tracks) if unbound else tracks)
        first += length
    return pieces


def _windowed(step: Step, track: Track) -> Track:
    window = window_of(step)
    assert window is not None
    first = len(step.source_shape) - len(window.kernel)
    if window.kind != "pool":
        track = _channels_mixed(step, track, window.groups)
    for place, (kernel, stride, padding, dilation) in enumerate(
        zip(window.kernel, window.stride, window.padding, window.dilation, strict=True)
    ):
        axis = first + place
        length = step.shape[axis]
        if window.kind != "transposed":
            track = track.windowed(axis, kernel, stride, padding, dilation, length)
        elif kernel == stride and not padding and length == step.source_shape[axis] * stride:
            track = track.repeated(axis, stride)  # the kernels lie side by side
        elif stride == 1:
            track = track.windowed(axis, kernel, 1, dilation * (kernel - 1) - padding, dilation, length)
        else:
            last = padding / stride
            track = track.resampled(axis, 1 / stride, (last - dilation * (kernel - 1) / stride, last), length)
    return track


def _channels_mixed(step: Step, track: Track, groups: int) -> Track:
    """Behind a sum over the channels of a group, which then stand for the channels of the output."""
    channels = step.shape[1]
    if groups == channels == step.source_shape[1]:
        return track  # each channel for itself
    digits = track.axes[1]
    mixed = track.contracted([1], [channels])
    if groups == 1:
        return mixed
    if any(digit.jump for digit in digits):
        return mixed.lost(mixed.shape)
    # A group of those that see less goes on seeing less.
    loose = any(digit.loose for digit in digits)
    axes = tuple(digit._replace(loose=loose) for digit in mixed.axes[1])
    return Track(mixed.size, mixed.start, (mixed.axes[0], axes, *mixed.axes[2:]), mixed.status)


def _adaptive(step: Step, track: Track) -> Track:
    """Windows that share an axis evenly; where they cannot, they overlap by up to a position."""
    count = len(step.arguments["output_size"])
    for axis in range(len(step.shape) - count, len(step.shape)):
        length, wanted = step.source_shape[axis], step.shape[axis]
        if wanted == 1:
            track = track.contracted([axis], [1])
        elif length % wanted == 0:
            share = length // wanted
            track = track.windowed(axis, share, share, 0, 1, wanted)
        else:
            track = track.resampled(axis, length / wanted, (-1.0, length / wanted), wanted)
    return track


def _upsampled(step: Step, track: Track) -> Track:
    aligned = bool(step.arguments.get("align_corners"))
    for axis in range(2, len(step.shape)):
        track = _resized(track, step, axis, aligned)
    return track


def _resized(track: Track, step: Step, axis: int, aligned: bool) -> Track:
    length, wanted = step.source_shape[axis], step.shape[axis]
    if length == wanted:
        return track
    if "nearest" in step.name:
        if wanted % length == 0:
            return track.repeated(axis, wanted // length)
        return track.resampled(axis, length / wanted, (-1.0, 1.0), wanted)
    # The interpolated place lies between two positions, and bicubic takes one more on either side; an
    # antialiased one widens by the scale.
    reach = (2.0 if "bicubic" in step.name else 1.0) * (
        max(1.0, length / wanted) if "_aa" in step.name else 1.0
    )
    if aligned:
        scale, offset = (length - 1) / max(1, wanted - 1), 0.0
    else:
        scale, offset = length / wanted, 0.5 * length / wanted - 0.5
    return track.resampled(axis, scale, (offset - reach, offset + reach), wanted)


def _reduced(step: Step, track: Track) -> Track:
    """A sum, mean, maximum, ... over `dim`, or over everything."""
    rank = len(step.source_shape)
    axes = _axes(step.arguments.get("dim"), rank)
    contracted = track.contracted(axes, [1] * len(axes))
    keeps = bool(step.arguments.get("keepdim")) or len(step.shape) == rank
    return contracted if keeps else contracted.without(axes)


def _along(step: Step, track: Track) -> Track:
    """Each value made of all along `dim`: a softmax."""
    axis = step.arguments["dim"] % max(1, len(step.source_shape))
    return track.contracted([axis], [step.source_shape[axis]])


def _running(step: Step, track: Track) -> Track:
    """Each value made of those before it: a running sum."""
    found = _along(step, track)
    return Track(found.size, found.start, found.axes, max(found.status, Status.UPPER_BOUND))


def _recurrent(step: Step, track: Track) -> Track:
    """Each value made of those before it in the sequence, or read from both ends of all."""
    along = 1 if step.arguments["batch_first"] else 0
    both_ways = step.arguments["bidirectional"]
    found = track.contracted([along, 2], [step.source_shape[along], step.shape[2]])
    # What is read from one end sees all up to its place, the two together all.
    outputs = tuple(digit._replace(loose=both_ways) for digit in found.axes[2])
    status = found.status if both_ways else max(found.status, Status.UPPER_BOUND)
    return Track(found.size, found.start, (*found.axes[:2], outputs), status)


def _last_state(step: Step, track: Track) -> Track:
    """Of a recurrence, (layers, batch, width): made of the whole sequence."""
    along = 1 if step.arguments["batch_first"] else 0
    sequences = track.contracted([along, 2], [1, 1]).without([along])
    return sequences.unsqueezed(0).spread_to(step.output_shapes[1])


def _layer_norm(step: Step, track: Track) -> Track:
    count, rank = len(step.arguments["normalized_shape"]), len(step.source_shape)
    axes = range(rank - count, rank)
    return track.contracted(axes, step.source_shape[rank - count :])


def _group_norm(step: Step, track: Track) -> Track:
    loose = any(digit.loose for digit in track.axes[1]) and step.arguments.get("group", 1) > 1
    found = track.contracted(range(1, len(track.axes)), step.source_shape[1:])
    axes = tuple(digit._replace(loose=loose) for digit in found.axes[1])
    return Track(found.size, found.start, (found.axes[0], axes, *found.axes[2:]), found.status)


def _batch_norm(step: Step, track: Track) -> Track:
    """With running statistics each value for itself; with the batch's own, all of its channel."""
    batch_statistics = step.arguments.get("training", "no_stats" in step.name)
    if "no_training" in step.name or not batch_statistics:
        return track
    axes = [axis for axis in range(len(track.axes)) if axis != 1]
    return track.contracted(axes, [step.source_shape[axis] for axis in axes])


def _viewed(step: Step, track: Track) -> Track:
    return track.regrouped(step.shape)


def _permuted(step: Step, track: Track) -> Track:
    rank = len(step.source_shape)
    return track.permuted([axis % rank for axis in step.arguments["dims"]])


def _exchanged(step: Step, track: Track) -> Track:
    rank = len(step.source_shape)
    order = list(range(rank))
    first, second = (step.arguments.get(name, place) % rank for name, place in (("dim0", -2), ("dim1", -1)))
    order[first], order[second] = order[second], order[first]
    return track.permuted(order)


def _matrix_turned(step: Step, track: Track) -> Track:
    return track.permuted(list(reversed(range(len(step.source_shape)))))


def _unsqueezed(step: Step, track: Track) -> Track:
    return track.unsqueezed(step.arguments["dim"] % len(step.shape))


def _squeezed(step: Step, track: Track) -> Track:
    rank = len(step.source_shape)
    axes = _axes(step.arguments.get("dim"), rank)
    return track.without(axis for axis in axes if step.source_shape[axis] == 1)


def _spread(step: Step, track: Track) -> Track:
    return track.spread_to(step.shape)


def _sliced(step: Step, track: Track) -> Track:
    axis = step.arguments["dim"] % len(step.source_shape)
    length = step.source_shape[axis]
    first = step.arguments["start"] or 0
    first = min(max(first + length if first < 0 else first, 0), length)
    return track.sliced(axis, first, step.arguments["step"], step.shape[axis])


def _selected(step: Step, track: Track) -> Track:
    axis = step.arguments["dim"] % len(step.source_shape)
    place = step.arguments["index"] % step.source_shape[axis]
    return track.sliced(axis, place, 1, 1).without([axis])


def _padded(step: Step, track: Track) -> Track:
    margins: Sequence[int] = step.arguments["pad" if step.name == "constant_pad_nd" else "padding"]
    return padded_field((track,), step.shape, margins)[0]


def _extended(track: Track, axis: int, before: int, after: int, length: int) -> Track:
    """With cells added that see nothing, or what lies beyond the border if the pixels went on."""
    digits = track.axes[axis]
    if not (before or after):
        return track
    if any(digit.jump for digit in digits):
        return track.windowed(axis, 1, 1, before, 1, length)
    widened = track.contracted([axis], [length])
    axes = tuple(digit._replace(loose=True) for digit in widened.axes[axis])
    return Track(track.size, track.start, (*track.axes[:axis], axes, *track.axes[axis + 1 :]), track.status)


def _shuffled(step: Step, track: Track) -> Track:
    """Pixel shuffle: the channels become pixels between the pixels."""
    factor = step.arguments["upscale_factor"]
    *batch, channels, height, width = step.source_shape
    split = track.regrouped((*batch, channels // factor**2, factor, factor, height, width))
    first = len(batch)
    order = [*range(first + 1), first + 3, first + 1, first + 4, first + 2]
    return split.permuted(order).regrouped(step.shape)


def _unshuffled(step: Step, track: Track) -> Track:
    """Pixel unshuffle: each block of pixels becomes the channels of one."""
    factor = step.arguments["downscale_factor"]
    *batch, channels, height, width = step.source_shape
    split = track.regrouped((*batch, channels, height // factor, factor, width // factor, factor))
    first = len(batch)
    order = [*range(first + 1), first + 2, first + 4, first + 1, first + 3]
    return split.permuted(order).regrouped(step.shape)


def _restrided(step: Step, track: Track) -> Track:
    """Torch gives a tensor other strides in memory; of another shape, anything may have moved."""
    return track if step.shape == step.source_shape else track.lost(step.shape)


def _reordered(step: Step, track: Track) -> Track:
    """The positions of some axes in another order, or some of them: channels, as a rule."""
    axes = _axes(step.arguments.get("dims", step.arguments.get("dim")), len(step.shape))
    if any(digit.jump for axis in axes for digit in track.axes[axis]):
        return track.lost(step.shape)
    loose = any(digit.loose for axis in axes for digit in track.axes[axis])
    picked = loose and step.name == "index_select"
    status = max(track.status, Status.UPPER_BOUND) if picked else track.status
    found = track.contracted(axes, [step.shape[axis] for axis in axes])
    mixed = tuple(
        tuple(digit._replace(loose=loose) for digit in digits) if axis in axes else digits
        for axis, digits in enumerate(found.axes)
    )
    return Track(found.size, found.start, mixed, status)


def _lost(step: Step, track: Track) -> Track:
    return track.lost(step.shape)


def _depends(step: Step, track: Track) -> Track:
    """The values decide: which come first, where to look."""
    return track.total(step.shape, Status.DATA_DEPENDENT)


def _axes(given: Any, rank: int) -> list[int]:
    if given is None or given == []:
        return list(range(rank))
    axes = given if isinstance(given, list | tuple) else [given]
    return [axis % max(1, rank) for axis in axes]


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(_names(names), rule)


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_PRODUCTS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "mv": ("self", "vec"),
    "dot": ("self", "tensor"),
    "addmm": ("mat1", "mat2", "self"),
    "addmv": ("mat", "vec", "self"),
    "baddbmm": ("batch1", "batch2", "self"),
}

_PIECES = ("split", "split_with_sizes", "unsafe_split", "unbind")

# Made in the image of a tensor, without its values.
CONSTANTS = _names(
    "new_empty new_empty_strided new_zeros new_ones new_full empty_like zeros_like ones_like full_like "
    "rand_like randn_like zero"
)

# Other tensors say where to look: the input itself decides where these depend on it.
_LOOKUPS = _names(
    "gather index index_select take scatter grid_sampler_2d grid_sampler_3d roi_align roi_pool ps_roi_align "
    "deform_conv2d embedding"
)

# Value by value, though torch does not mark them so.
_JOINS = _names(
    "alias clone contiguous detach dropout hardswish hardtanh lift_fresh lift_fresh_copy masked_fill "
    "native_dropout prelu _prelu_kernel _to_copy where fill copy relu6 rrelu_with_noise"
)

_RULES: dict[str, Rule] = {
    **_named(_adaptive, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"),
    **_named(_adaptive, "adaptive_avg_pool1d adaptive_avg_pool2d"),
    **_named(
        _upsampled, "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d"
    ),
    **_named(_upsampled, "upsample_linear1d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa"),
    **_named(_upsampled, "_upsample_bicubic2d_aa"),
    **_named(_reduced, "mean sum amax amin max min prod var std var_mean std_mean logsumexp any all"),
    **_named(_reduced, "linalg_vector_norm norm argmax argmin median"),
    **_named(_along, "_softmax _safe_softmax _log_softmax"),
    **_named(_running, "cumsum cumprod cummax cummin logcumsumexp"),
    **_named(_layer_norm, "native_layer_norm"),
    **_named(_group_norm, "native_group_norm"),
    **_named(_batch_norm, "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit"),
    **_named(_batch_norm, "_native_batch_norm_legit_no_training _batch_norm_with_update"),
    **_named(_viewed, "view _unsafe_view reshape _reshape_alias"),
    **_named(_permuted, "permute"),
    **_named(_exchanged, "transpose"),
    **_named(_matrix_turned, "t"),
    **_named(_unsqueezed, "unsqueeze"),
    **_named(_squeezed, "squeeze"),
    **_named(_spread, "expand"),
    **_named(_sliced, "slice"),
    **_named(_selected, "select"),
    **_named(_padded, "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d"),
    **_named(_padded, "replication_pad1d replication_pad2d replication_pad3d"),
    **_named(_shuffled, "pixel_shuffle"),
    **_named(_unshuffled, "pixel_unshuffle"),
    **_named(_depends, "sort topk nonzero nms masked_select bincount unique _unique2"),
    **_named(_restrided, "as_strided"),
    **_named(_reordered, "roll flip index_select"),
    **_named(_lost, "repeat"),
    **dict.fromkeys([name for name in _LOOKUPS if name != "index_select"], _lost),
}
