import pytest
import torch
import torchvision
from torch import Tensor, nn

from striate.ops.candidates import best_candidates, unsuppressed


def boxes_of(seed: int, batch: int, count: int, side: int = 100) -> tuple[Tensor, Tensor]:
    """Boxes (batch, count, 4) with corners on quarters of pixels, and scores no two of which are equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 4 * side, (batch, count, 2), generator=generator)
    sides = torch.randint(4, 2 * side, (batch, count, 2), generator=generator)
    scores = torch.stack([torch.randperm(count, generator=generator) for _ in range(batch)])
    return torch.cat((corner, corner + sides), 2) / 4, (scores + 1) / (count + 1)


# the best of each class


def test_each_class_gives_its_highest_scores_with_their_boxes() -> None:
    boxes = torch.arange(12.0).view(1, 3, 4)
    scores = torch.tensor([[[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]]])
    found = best_candidates(boxes, scores, per_class=2)
    assert found["labels"].tolist() == [[0, 0, 1, 1]]
    torch.testing.assert_close(found["scores"], torch.tensor([[0.5, 0.3, 0.9, 0.4]]))
    assert torch.equal(found["boxes"], boxes[:, [1, 2, 0, 2]])


def test_boxes_of_each_class_are_followed() -> None:
    boxes = torch.arange(24.0).view(1, 3, 2, 4)
    scores = torch.tensor([[[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]]])
    found = best_candidates(boxes, scores, per_class=1)
    assert torch.equal(found["boxes"], torch.stack((boxes[0, 1, 0], boxes[0, 0, 1]))[None])


def test_fewer_boxes_than_asked_for_are_all_given() -> None:
    found = best_candidates(torch.zeros(2, 3, 4), torch.rand(2, 3, 5), per_class=200)
    assert {name: tensor.shape for name, tensor in found.items()} == {
        "boxes": (2, 15, 4),
        "scores": (2, 15),
        "labels": (2, 15),
    }
    assert found["labels"].dtype == torch.int64


@pytest.mark.parametrize("own_boxes", [False, True])
def test_every_picture_is_narrowed_down_alone(own_boxes: bool) -> None:
    boxes, scores = torch.rand(3, 7, *((4, 4) if own_boxes else (4,))), torch.rand(3, 7, 4)
    together = best_candidates(boxes, scores, 3)
    for picture in range(3):
        alone = best_candidates(boxes[picture : picture + 1], scores[picture : picture + 1], 3)
        for name, tensor in alone.items():
            assert torch.equal(together[name][picture], tensor[0])


# suppression


def test_the_surer_of_two_stays() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]])
    assert unsuppressed(boxes, torch.tensor([[0.5, 0.6, 0.1]]), 0.5).tolist() == [[False, True, True]]


def test_an_overlap_of_the_threshold_itself_is_none_too_many() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5]]])
    scores = torch.tensor([[0.9, 0.8]])
    assert unsuppressed(boxes, scores, 0.5).tolist() == [[True, True]]
    assert unsuppressed(boxes, scores, 0.49).tolist() == [[True, False]]


def test_of_equals_the_first_stays() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10]] * 3])
    assert unsuppressed(boxes, torch.full((1, 3), 0.5), 0.5).tolist() == [[True, False, False]]


def test_groups_do_not_compete() -> None:
    boxes, scores = torch.tensor([[[0.0, 0, 10, 10]] * 3]), torch.tensor([[0.3, 0.2, 0.1]])
    found = unsuppressed(boxes, scores, 0.5, torch.tensor([[0, 4, 4]]))
    assert found.tolist() == [[True, True, False]]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_box(count: int) -> None:
    found = unsuppressed(torch.zeros(2, count, 4), torch.rand(2, count), 0.5)
    assert found.shape == (2, count)
    assert found.all()


def test_unused_rows_take_nothing_away() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 0, 0], [0, 0, 0, 0]]])
    assert unsuppressed(boxes, torch.tensor([[0.4, 0.9, 0.8]]), 0.7)[0, 0]


@pytest.mark.parametrize(("batch", "groups", "side"), [(1, 1, 100), (3, 5, 100), (40, 5, 1300)])
def test_what_stays_equals_torchvisions(batch: int, groups: int, side: int) -> None:
    boxes, scores = boxes_of(1, batch, 60, side)
    group = torch.randint(0, groups, scores.shape, generator=torch.Generator().manual_seed(2))
    found = unsuppressed(boxes, scores, 0.5, group)
    assert not found.all()
    for picture in range(batch):
        kept = torchvision.ops.batched_nms(boxes[picture], scores[picture], group[picture], 0.5)
        assert found[picture].nonzero()[:, 0].tolist() == sorted(kept.tolist())


def test_small_boxes_of_many_pictures_are_told_apart_to_a_hundredth_of_a_pixel() -> None:
    # 8 of 16 pixels in common, and a hundredth of a pixel more beside them: 8 / 16.08 = 0.4975.
    boxes = torch.tensor([[0.0, 0, 2, 8], [1, 0, 2.01, 8], [1000, 1000, 1330, 1330]]).expand(256, 3, 4)
    scores = torch.tensor([0.9, 0.8, 0.7]).expand(256, 3)
    assert unsuppressed(boxes, scores, 0.4985)[:, 1].all()
    assert not unsuppressed(boxes, scores, 0.4965)[:, 1].any()


def test_pictures_and_groups_lie_apart_however_large_their_boxes() -> None:
    boxes = torch.tensor([0.0, 0, 10, 10]).expand(40, 2, 4)
    groups = torch.tensor([0, 1]).expand(40, 2)
    assert unsuppressed(boxes, torch.rand(40, 2), 0.001, groups).all()


class Proposals(nn.Module):
    """The surest boxes left by the suppression, as a region proposal network gives them."""

    def forward(self, boxes: Tensor, scores: Tensor, groups: Tensor) -> Tensor:
        stays = unsuppressed(boxes, scores, 0.5, groups)
        best = torch.where(stays, scores, -1.0).topk(10).indices
        return boxes.gather(1, best[..., None].expand(-1, -1, 4))


@pytest.mark.filterwarnings("ignore:.create_unbacked_symint:FutureWarning")  # torchvision's way of tracing
def test_an_exported_suppression_takes_any_batch() -> None:
    boxes, scores = boxes_of(3, 4, 50)
    groups = torch.arange(50).expand(4, 50) % 3
    batch = torch.export.Dim("batch", min=1, max=64)
    module = Proposals()
    program = torch.export.export(
        module, (boxes, scores, groups), dynamic_shapes=({0: batch}, {0: batch}, {0: batch})
    ).module()
    for size in (1, 2, 7):
        boxes, scores = boxes_of(size, size, 50)
        groups = torch.arange(50).expand(size, 50) % 3
        assert torch.equal(program(boxes, scores, groups), module(boxes, scores, groups))
