"""What a web server loads; `manage.py runserver`, too."""

import os

from django.core.wsgi import get_wsgi_application
from opentelemetry.instrumentation.django import DjangoInstrumentor

from shop import tracing

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
tracing.set_up("shop-web")
DjangoInstrumentor().instrument()  # adds the first middleware, before Django loads them
application = get_wsgi_application()
