"""Tasks that a request sends belong to its user.

What `transaction.on_commit` calls runs inside the request that committed, so it is covered, too.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from oracle_celery import owner


class OwnerMiddleware:
    """After AuthenticationMiddleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.user.is_authenticated:
            return self.get_response(request)
        with owner(request.user.pk):  # the number: a name may change hands
            return self.get_response(request)
