from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from orders.models import Order
from orders.tasks import settle

CENTS = 12_900  # there is but one thing to buy


@require_safe
@login_required
def orders(request: HttpRequest) -> HttpResponse:
    """My orders, and the way to my tasks."""
    mine = Order.objects.filter(customer=request.user).order_by("-pk")
    return render(request, "orders/orders.html", {"orders": mine})


@require_POST
@login_required
def place_order(request: HttpRequest) -> HttpResponse:
    """The task is sent when the order can be read: a worker may be quicker than a commit."""
    with transaction.atomic():
        order = Order.objects.create(customer=request.user, cents=CENTS)
        transaction.on_commit(lambda: settle.delay(order.pk))
    return redirect("orders")
