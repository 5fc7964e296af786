"""Who is asking: the project's JSON Web Tokens, checked once, here.

    python identity.py ann [--role admin]     # a token for trying things out

Service and dashboard take the same token, because both check it by the same key and find the user in the same claim.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Annotated

import jwt
from configuration import JWT_KEY
from fastapi import Cookie, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

ALGORITHM = "HS256"
TOKEN_SECONDS = 3_600


@dataclass(frozen=True)
class User:
    """Somebody whose token is good."""

    user_id: str
    token: str
    expires_at: int  # seconds since the epoch


def bearer_of(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> User:
    """For programs: ``Authorization: Bearer <token>``."""
    return user_of(credentials.credentials)


def visitor_of(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    session: Annotated[str | None, Cookie()] = None,
) -> User:
    """For pages, too: a browser has its token in a cookie."""
    return user_of(session or "" if credentials is None else credentials.credentials)


def user_of(token: str) -> User:
    """Answers 401 where the token is not good; the reason stays here."""
    try:
        claims = jwt.decode(token, JWT_KEY, algorithms=[ALGORITHM], options={"require": ["exp", "sub"]})
    except jwt.PyJWTError:
        raise HTTPException(401, "This token is not valid.", {"WWW-Authenticate": "Bearer"}) from None
    return User(user_id=claims["sub"], token=token, expires_at=int(claims["exp"]))


def main() -> None:
    arguments = argparse.ArgumentParser(description="Makes a token, as the project's identity system would.")
    arguments.add_argument("user_id")
    arguments.add_argument("--role")
    options = arguments.parse_args()
    claims = {"sub": options.user_id, "exp": int(time.time()) + TOKEN_SECONDS}
    if options.role is not None:
        claims["role"] = options.role
    print(jwt.encode(claims, JWT_KEY, ALGORITHM))


if __name__ == "__main__":
    main()
