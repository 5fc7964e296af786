from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from orders import views

from shop import dashboard

urlpatterns = [
    path("", views.orders, name="orders"),
    path("orders/", views.place_order, name="place_order"),
    path("dashboard/", dashboard.open_dashboard, name="dashboard"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]
