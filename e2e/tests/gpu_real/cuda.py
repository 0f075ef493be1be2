# CUDA's driver API through ctypes, so that an image needs no package for it: what a cell of gpu_real.rs may call.
import ctypes

MIB = 1 << 20
cu = ctypes.CDLL("libcuda.so.1")
libc = ctypes.CDLL(None)
libc.memmem.restype = ctypes.c_void_p
libc.memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
u64, size, pointer = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p


class CudaError(RuntimeError):
    pass


def check(result):
    if result:
        name, text = ctypes.c_char_p(), ctypes.c_char_p()
        cu.cuGetErrorName(result, ctypes.byref(name))
        cu.cuGetErrorString(result, ctypes.byref(text))
        raise CudaError(f"{(name.value or b'?').decode()}: {(text.value or b'?').decode()}")


def begin():
    """Takes the first GPU; how many there are, its name, and the version of CUDA that the driver has."""
    check(cu.cuInit(0))
    count, device, version, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), pointer()
    name = ctypes.create_string_buffer(100)
    check(cu.cuDeviceGetCount(ctypes.byref(count)))
    check(cu.cuDeviceGet(ctypes.byref(device), 0))
    check(cu.cuDeviceGetName(name, 100, device))
    check(cu.cuDriverGetVersion(ctypes.byref(version)))
    check(cu.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(cu.cuCtxSetCurrent(context))
    return count.value, name.value.decode(), version.value


def free_and_total():
    free, total = size(), size()
    check(cu.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)))
    return free.value, total.value


def alloc(length):
    address = u64()
    check(cu.cuMemAlloc_v2(ctypes.byref(address), size(length)))
    return address.value


def free(address):
    check(cu.cuMemFree_v2(u64(address)))


def put(address, data):
    check(cu.cuMemcpyHtoD_v2(u64(address), data, size(len(data))))


def get(address, length):
    data = ctypes.create_string_buffer(length)
    check(cu.cuMemcpyDtoH_v2(data, u64(address), size(length)))
    return data.raw


def fill(length, pattern):
    """Memory of this length, full of the pattern."""
    part = (pattern * (64 * MIB // len(pattern) + 1))[: 64 * MIB]
    address = alloc(length)
    for at in range(0, length, len(part)):
        put(address + at, part[: length - at])
    check(cu.cuCtxSynchronize())
    return address


def take_all():
    """Takes memory until there is no more: the blocks, and what the driver said then."""
    blocks, length = [], 4096 * MIB
    while True:
        try:
            blocks.append((alloc(length), length))
        except CudaError as error:
            if length <= 16 * MIB:
                return blocks, error
            length //= 2


def scan(blocks, pattern):
    """Reads all of it: how many bytes, in how many of its parts not all are zero, and how many hold the pattern."""
    length, host = 128 * MIB, pointer()
    check(cu.cuMemAllocHost_v2(ctypes.byref(host), size(length)))
    total = dirty = found = 0
    for address, whole in blocks:
        for at in range(0, whole, length):
            part = min(length, whole - at)
            check(cu.cuMemcpyDtoH_v2(host, u64(address + at), size(part)))
            total += part
            zero = ctypes.string_at(host.value, 8) == bytes(8) and not libc.memcmp(host.value, host.value + 8, part - 8)
            if not zero:
                dirty += 1
                found += libc.memmem(host.value, part, pattern, len(pattern)) is not None
    check(cu.cuMemFreeHost(host))
    return total, dirty, found


# Adds to each number its own index. The driver compiles it when it is loaded, as it does for what is older than the GPU.
ADD = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry add(.param .u64 numbers, .param .u32 count) {
  .reg .pred %p; .reg .b32 %r<6>; .reg .b64 %d<4>;
  ld.param.u64 %d1, [numbers]; ld.param.u32 %r1, [count];
  mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x; mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p, %r5, %r1;
  @%p ret;
  cvta.to.global.u64 %d1, %d1;
  mul.wide.u32 %d2, %r5, 4;
  add.u64 %d3, %d1, %d2;
  ld.global.u32 %r4, [%d3];
  add.u32 %r4, %r4, %r5;
  st.global.u32 [%d3], %r4;
  ret;
}
"""


def add_indexes(numbers):
    """These numbers with their indexes added, computed on the GPU."""
    import array
    module, function = pointer(), pointer()
    check(cu.cuModuleLoadData(ctypes.byref(module), ADD))
    check(cu.cuModuleGetFunction(ctypes.byref(function), module, b"add"))
    data = array.array("I", numbers).tobytes()
    address = alloc(len(data))
    put(address, data)
    first, second = u64(address), ctypes.c_uint32(len(numbers))
    parameters = (pointer * 2)(ctypes.addressof(first), ctypes.addressof(second))
    check(cu.cuLaunchKernel(function, (len(numbers) + 255) // 256, 1, 1, 256, 1, 1, 0, None, parameters, None))
    check(cu.cuCtxSynchronize())
    sums = array.array("I", get(address, len(data)))
    free(address)
    return list(sums)
