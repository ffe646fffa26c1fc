"""Errors of the API, in the body that the official client reads."""

from typing import Any

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """A request that is refused, or that failed. The status decides which exception a client raises."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """`param`: the field that is wrong; `retry_after`: seconds until another try may succeed."""
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of the answer, and of an event in a stream."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """A request that can never work, whatever the server does: status 400."""
    return ApiError(400, message, code=code, param=param)


def unavailable(message: str, retry_after: int) -> ApiError:
    """A request that the server cannot serve now: status 503."""
    return ApiError(503, message, code="service_unavailable", retry_after=retry_after)
