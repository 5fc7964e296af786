"""The way to Oracle's dashboard for whoever is logged in to the shop."""

import time

import jwt
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

#: A token cannot be called back, so it is short; the dashboard asks for a new one after that.
TOKEN_SECONDS = 3_600


@require_safe
@never_cache
@login_required
def open_dashboard(request: HttpRequest) -> HttpResponse:
    """Logged in as the same user; the staff sees everybody's tasks. The token stands behind the #, which a browser
    sends to nobody, so that no server logs it; the dashboard's page takes it out of the address at once."""
    claims = {"sub": str(request.user.pk), "exp": int(time.time()) + TOKEN_SECONDS}
    if request.user.is_staff:
        claims["role"] = "admin"
    token = jwt.encode(claims, settings.JWT_KEY, "HS256")
    answer = HttpResponseRedirect(f"{settings.DASHBOARD_URL}/#/login/{token}")
    answer["Referrer-Policy"] = "no-referrer"
    return answer
