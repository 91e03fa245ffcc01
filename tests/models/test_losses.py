"""Losses against values by hand and slow versions."""

import pytest
import torch

from xattn_edu.models.losses import CLASS_WEIGHTS, dice_loss, mask_loss


def test_mask_loss_is_the_weighted_mean_of_the_pixels():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 2, 3, 5), torch.randint(2, (2, 3, 5))
    assert CLASS_WEIGHTS == (0.9, 1.1)  # of background and referent
    total = weights = 0.0
    for image in range(2):
        for y in range(3):
            for x in range(5):
                label = int(masks[image, y, x])
                probability = logits[image, :, y, x].exp()[label] / logits[image, :, y, x].exp().sum()
                total += (0.9, 1.1)[label] * -probability.log().item()
                weights += (0.9, 1.1)[label]
    assert mask_loss(logits, masks).item() == pytest.approx(total / weights, rel=1e-5)
    assert mask_loss(logits, masks.to(torch.uint8)).item() == pytest.approx(total / weights, rel=1e-5)


def test_dice_loss_by_hand():
    # One pixel of two is the referent; p is 0.8 for the right class in both pixels.
    logits = torch.tensor([[[[0.8, 0.2]], [[0.2, 0.8]]]]).log()
    masks = torch.tensor([[[0, 1]]])
    dice = 2 * 0.8 / (0.8**2 + 0.2**2 + 1 + 1e-6)
    assert dice_loss(logits, masks).item() == pytest.approx(1 - dice, rel=1e-5)


def test_dice_loss_averages_images_and_classes():
    torch.manual_seed(1)
    logits, masks = torch.randn(3, 2, 4, 4), torch.randint(2, (3, 4, 4))
    masks[0] = 0  # an image without its referent: that class's coefficient is 0
    p, found = logits.softmax(1), []
    for image in range(3):
        for label in range(2):
            t = (masks[image] == label).float()
            found.append(2 * (p[image, label] * t).sum() / ((p[image, label] ** 2).sum() + t.sum() + 1e-6))
    torch.testing.assert_close(dice_loss(logits, masks), 1 - torch.stack(found).mean())


def test_a_perfect_answer_costs_next_to_nothing():
    masks = torch.randint(2, (2, 6, 6), generator=torch.Generator().manual_seed(2))
    logits = 60.0 * torch.stack([1 - masks, masks], dim=1)
    assert mask_loss(logits, masks) < 1e-6 and dice_loss(logits, masks) < 1e-5
    assert mask_loss(-logits, masks) > 50 and dice_loss(-logits, masks) > 0.9
