import torch

from striate.models.renaming import renamed


def test_renaming_keeps_what_it_does_not_know() -> None:
    one, two, three = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    found = renamed({"a.b.weight": one, "a.bc.weight": two, "scale": three}, [("a.b", "x")])
    assert found == {"x.weight": one, "a.bc.weight": two, "scale": three}
