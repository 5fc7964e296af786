"""Django's settings, Celery's and Oracle's; README.md says what must stand in the environment."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "orders",
]
MIDDLEWARE = [
    "shop.correlation.CorrelationIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "shop.ownership.OwnerMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
# The shop's own tables; Oracle has its own, in PostgreSQL.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", BASE_DIR / "shop.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "orders"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"correlation": {"()": "shop.correlation.CorrelationIdFilter"}},
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s [%(correlation_id)s] %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["correlation"], "formatter": "line"}},
    "loggers": {"shop": {"handlers": ["console"], "level": "INFO"}},
}

#: Where browsers find the dashboard, and the secret by which it knows the shop's users.
DASHBOARD_URL = os.environ.get("DASHBOARD_URL", "http://127.0.0.1:5556")
JWT_KEY = os.environ["JWT_KEY"]
#: The bookkeeping service that the task calls.
LEDGER_URL = os.environ.get("LEDGER_URL", "http://127.0.0.1:8900")

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "amqp://guest:guest@localhost//")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_TASK_IGNORE_RESULT = True
# Oracle by configuration alone: the first line is for workers, the second for web processes.
CELERY_IMPORTS = ["oracle_celery.enable"]
CELERY_TASK_ROUTES = ["oracle_celery.enable.producer"]
CELERY_ORACLE_URL = os.environ["DATABASE_URL"]
CELERY_ORACLE_JWT_KEY = JWT_KEY
CELERY_ORACLE_OWNER_KEY = os.environ["OWNER_KEY"]
CELERY_ORACLE_TRACING = True  # the spans of producers and workers
CELERY_ORACLE_TRACE_URL = os.environ.get("TRACE_URL", "http://localhost:16686/trace/{trace_id}")
CELERY_ORACLE_PUBLIC_URL = DASHBOARD_URL  # the way back: each run's span has the address of its task's page
