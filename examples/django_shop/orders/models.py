from django.conf import settings
from django.db import models


class Order(models.Model):
    """What somebody has bought."""

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT)
    cents = models.PositiveIntegerField()
    fee_cents = models.PositiveIntegerField(null=True)

    def __str__(self) -> str:
        return f"order {self.pk}"
